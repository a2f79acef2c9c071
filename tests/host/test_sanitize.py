# SPDX-License-Identifier: GPL-2.0-only
"""The host tests once more, with the command and the library built with the address
(leaks included) and undefined-behaviour sanitizers: each finding ends the program with
a status that no test expects."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostlib import HERE, TOP

FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all"


@pytest.fixture(scope="module")
def env():
    out = Path(os.environ["OOH_BUILD"]) / "sanitize"
    r = subprocess.run(["make", "-s", "-C", TOP / "libooh", f"O={out}", f"CFLAGS=-O1 -g {FLAGS}"],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return {**os.environ, "OOH_BIN": str(out / "ooh"), "OOH_TEST_CFLAGS": FLAGS,
            "LSAN_OPTIONS": f"suppressions={HERE}/lsan.supp:print_suppressions=0",
            "ASAN_OPTIONS": "detect_leaks=1:exitcode=98", "UBSAN_OPTIONS": "print_stacktrace=1"}


def test_it_finds_what_is_planted(env, tmp_path):
    for code in ("return !malloc(1);", "char *p = malloc(1); return p[1];",
                 "return 1 << (argc + 31);"):
        c = tmp_path / "planted.c"
        c.write_text(f"#include <stdlib.h>\nint main(int argc, char **argv) {{ {code} }}\n")
        subprocess.run(["cc", "-w", *FLAGS.split(), "-o", tmp_path / "planted", c], check=True)
        r = subprocess.run([tmp_path / "planted"], env=env, capture_output=True, text=True)
        assert r.returncode and ("Sanitizer" in r.stderr or "runtime error" in r.stderr), code


@pytest.mark.parametrize("file", ["test_cli.py", "test_native.py", "test_top_host.py",
                                  "test_checkpoint_folder.py"])
def test_once_more(env, file):
    """But for the tests that preload something of their own."""
    r = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q",
                        "--tb=short", "-k", "not crash", HERE / file],
                       env=env, cwd=TOP, capture_output=True, text=True, timeout=800)
    assert r.returncode == 0, r.stdout[-6000:]
    assert int(re.search(r"(\d+) passed", r.stdout)[1]) > 10
