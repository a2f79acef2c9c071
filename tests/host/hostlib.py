# SPDX-License-Identifier: GPL-2.0-only
"""What the host tests share: the command under test, the compiler, the programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Sequence

import judge
import pytest
from testbed import oohjson
from testbed.oohjson import Backend, Verified

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
OOH = os.environ.get("OOH_BIN", str(TOP / "build" / "host" / "usr" / "bin" / "ooh"))
# the library beside it: installed, or in a build folder
LIB = Path(OOH).resolve().parent
if not (LIB / "libooh.so").exists():
    LIB = LIB.parent / "lib"
USE_LIB = [f"-L{LIB}", "-looh", f"-Wl,-rpath,{LIB}"]
NATIVE = ["pagemap-scan", "uffd-wp", "soft-dirty"]


def ooh(*args: object, timeout: float = 60, **kw: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OOH, *map(str, args)], capture_output=True, text=True, timeout=timeout,
                          **kw)


def backends() -> dict[str, Backend]:
    return oohjson.backends(ooh("backends", "--json").stdout)


def need(backend: str) -> None:
    b = backends()[backend]
    if not b["usable"]:
        pytest.skip(f"{backend}: {b['reason']}")


def compile_c(out: Path, *sources: Path, flags: Sequence[str] = ()) -> Path:
    cmd = ["cc", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-o", str(out), *map(str, sources)]
    cmd += [*flags, *(f"-I{TOP}/{d}" for d in ("include", "libooh/include", "libooh/src")),
            "-lpthread"]
    if "-looh" in flags:
        # a library built with sanitizers needs programs that are
        cmd += os.environ.get("OOH_TEST_CFLAGS", "").split()
    r = subprocess.run(cmd, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return out


def verify(*args: object, status: int = 0, **kw: Any) -> Verified:
    return judge.verified(ooh("verify", "--json", *args, **kw), status)
