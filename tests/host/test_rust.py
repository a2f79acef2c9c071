# SPDX-License-Identifier: GPL-2.0-only
"""bindings/rust: it builds against the library, and has what the header has."""

import os
import re
import shutil
import subprocess

import pytest
from hostlib import LIB, TOP, need

CRATE = TOP / "bindings" / "rust" / "ooh-sys"


@pytest.fixture(scope="module")
def cargo(tmp_path_factory):
    """Runs cargo in a copy of the crate, without a network."""
    if not shutil.which("cargo"):
        pytest.skip("cargo is not installed")
    d = shutil.copytree(CRATE, tmp_path_factory.mktemp("rust") / "ooh-sys")
    env = {**os.environ, "OOH_LIB_DIR": str(LIB), "LD_LIBRARY_PATH": str(LIB),
           "RUSTFLAGS": "-D warnings"}

    def run(*args):
        r = subprocess.run(["cargo", *args], cwd=d, env=env, capture_output=True, text=True,
                           timeout=600)
        assert r.returncode == 0, r.stdout + r.stderr
        return r.stdout

    return run


def test_it_has_what_the_header_has():
    header = re.sub(r"/\*.*?\*/", "", (TOP / "libooh/include/ooh.h").read_text(), flags=re.S)
    code = (CRATE / "src/lib.rs").read_text()
    assert set(re.findall(r"pub fn (ooh_\w+)", code)) == set(re.findall(r"\b(ooh_\w+)\(", header))
    for name, body in re.findall(r"struct (ooh_\w+) \{(.*?)\n\};", header, re.S):
        ours = re.search(rf"pub struct {name} \{{(.*?)\n\}}", code, re.S)[1]
        assert re.findall(r"pub (\w+):", ours) == re.findall(r"\b\*?(\w+)(?:\[\w+\])?;", body), name
    for name, value in re.findall(r"#define (OOH_STOPPED|OOH_ALL_DIRTY|OOH_REASON_LEN)\s+(.*)",
                                  header):
        assert re.search(rf"{name}: \w+ = (.*);", code)[1] == value.strip("() ").replace("1u", "1")
    version = ".".join(re.search(rf"OOH_VERSION_{x} (\d+)", header)[1]
                       for x in ("MAJOR", "MINOR", "PATCH"))
    assert f'\nversion = "{version}"\n' in (CRATE / "Cargo.toml").read_text()


def test_its_own_tests(cargo):
    need("pagemap-scan")
    assert cargo("test", "--offline", "-q").count("test result: ok. 2 passed") == 1


def test_the_example(cargo):
    need("pagemap-scan")
    work = subprocess.Popen(["sleep", "100"])
    try:
        out = cargo("run", "--offline", "-q", "--example", "record", "--", str(work.pid), "2")
    finally:
        work.kill()
        work.wait()
    assert len(re.findall(r"^round \d: \d+ pages written, not known of \d+$", out, re.M)) == 2
