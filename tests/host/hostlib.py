# SPDX-License-Identifier: GPL-2.0-only
"""What the host tests share: the command under test, the compiler, the programs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
OOH = os.environ.get("OOH_BIN", str(TOP / "build" / "host" / "usr" / "bin" / "ooh"))
# the library beside it: installed, or in a build folder
LIB = Path(OOH).resolve().parent
if not (LIB / "libooh.so").exists():
    LIB = LIB.parent / "lib"
USE_LIB = [f"-L{LIB}", "-looh", f"-Wl,-rpath,{LIB}"]
NATIVE = ["pagemap-scan", "uffd-wp", "soft-dirty"]


def ooh(*args, timeout=60, **kw):
    return subprocess.run(
        [OOH, *map(str, args)], capture_output=True, text=True, timeout=timeout, **kw
    )


def backends():
    return {b["name"]: b for b in json.loads(ooh("backends", "--json").stdout)}


def need(backend):
    b = backends()[backend]
    if not b["usable"]:
        pytest.skip(f"{backend}: {b['reason']}")


def compile_c(out, *sources, flags=()):
    cmd = ["cc", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-o", str(out), *map(str, sources)]
    cmd += [*flags, f"-I{TOP}/include", f"-I{TOP}/libooh/include", f"-I{TOP}/libooh/src", "-lpthread"]
    if "-looh" in flags:
        # a library built with sanitizers needs programs that are
        cmd += os.environ.get("OOH_TEST_CFLAGS", "").split()
    r = subprocess.run(cmd, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return out


def verify(*args, status=0, **kw):
    r = ooh("verify", "--json", *args, **kw)
    assert r.returncode == status, f"status {r.returncode}: {r.stderr}\n{r.stdout[-2000:]}"
    return json.loads(r.stdout)
