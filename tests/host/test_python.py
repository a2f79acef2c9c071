# SPDX-License-Identifier: GPL-2.0-only
"""bindings/python: what it says is what libooh says; it is typed, installs, and its example
plots."""

import ctypes
import errno
import importlib
import importlib.util
import mmap
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from hostlib import LIB, TOP, backends, need

PACKAGE = TOP / "bindings" / "python"
ENV = {**os.environ, "PYTHONPATH": str(PACKAGE), "OOH_LIBRARY": str(LIB / "libooh.so.0"),
       "PYTHONDONTWRITEBYTECODE": "1"}
PAGE = 4096

CHILD = """
import ctypes, mmap, sys
area = mmap.mmap(-1, 64 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area[:] = b"x" * len(area)
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
for line in sys.stdin:
    area[int(line) * 4096] = 7
    print("written", flush=True)
"""


@pytest.fixture(scope="module")
def ooh():
    os.environ["OOH_LIBRARY"] = ENV["OOH_LIBRARY"]
    sys.path.insert(0, str(PACKAGE))
    yield importlib.import_module("ooh")
    sys.path.remove(str(PACKAGE))


@pytest.fixture
def child():
    """A process that writes to the page it is told, and where its pages begin."""
    p = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    p.area = int(p.stdout.readline())

    def write(n):
        p.stdin.write(f"{n}\n")
        p.stdin.flush()
        assert p.stdout.readline() == "written\n"

    p.write_page = write
    yield p
    p.kill()
    p.communicate()


def has(ranges, address):
    return any(start <= address < end for start, end in ranges)


def test_backends(ooh):
    listed = [(n, b["usable"], b["reason"]) for n, b in backends().items()]
    assert [(b.name, b.usable, b.reason) for b in ooh.backends()] == listed


def test_version(ooh):
    text = (TOP / "libooh/include/ooh.h").read_text()
    version = ".".join(re.search(rf"OOH_VERSION_{x} (\d+)", text)[1]
                       for x in ("MAJOR", "MINOR", "PATCH"))
    assert ooh.version() == version
    assert f'\nversion = "{version}"\n' in (PACKAGE / "pyproject.toml").read_text()


def test_the_written_page_is_reported_and_no_other(ooh, child):
    need("pagemap-scan")
    with ooh.Tracker(child.pid, "pagemap-scan") as t:
        assert t.backend == "pagemap-scan" and t.pid == child.pid and t.reason
        child.write_page(1)
        t.collect()
        child.write_page(3)
        r = t.collect()
        assert not r.all_dirty and r.reason == ""
        assert has(r.written, child.area + 3 * PAGE)
        assert not has(r.written + r.unknown, child.area + PAGE)
        assert not has(r.written + r.unknown, child.area + 5 * PAGE)
        assert ooh.pages(r.written) == sum(x.end - x.start for x in r.written) // PAGE > 0
        s = t.stats()
        assert s.rounds == 2 and s.reported >= ooh.pages(r.written)
    with pytest.raises(ValueError):
        t.collect()
    t.close()


def test_oneself(ooh):
    need("pagemap-scan")
    area = mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area[:] = b"x" * len(area)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    with ooh.Tracker(backend="pagemap-scan") as t:
        t.collect()
        area[2 * PAGE] = 1
        r = t.collect()
    assert has(r.written, base + 2 * PAGE) and not has(r.written + r.unknown, base)


def test_an_exec_makes_everything_dirty(ooh):
    need("pagemap-scan")
    p = subprocess.Popen(["sh", "-c", "read x; exec sleep 60"], stdin=subprocess.PIPE)
    try:
        with ooh.Tracker(p.pid, "pagemap-scan") as t:
            p.stdin.write(b"\n")
            p.stdin.close()
            limit = time.monotonic() + 30
            while not (r := t.collect()).all_dirty and time.monotonic() < limit:
                time.sleep(0.01)
        assert r.all_dirty and "executed a new program" in r.reason
    finally:
        p.kill()
        p.wait()


def test_errors_have_libooh_s_reason(ooh, child):
    need("pagemap-scan")
    with pytest.raises(ooh.Error) as e:
        ooh.Tracker(2**22 + 5)
    assert e.value.errno == errno.ESRCH and str(2**22 + 5) in e.value.strerror
    with pytest.raises(ooh.Error) as e:
        ooh.Tracker(child.pid, "magic")
    assert "magic" in e.value.strerror
    with ooh.Tracker(child.pid, "pagemap-scan") as t:
        with pytest.raises(ooh.Error):
            t.fileno()
        child.kill()
        child.wait()
        with pytest.raises(ooh.Error) as e:
            t.collect()
        assert e.value.errno == errno.ESRCH and "ended" in e.value.strerror


def test_stats_are_those_of_the_header(ooh):
    text = (TOP / "libooh/include/ooh.h").read_text()
    struct = re.search(r"struct ooh_tracker_stats \{(.*?)\n\};", text, re.S)[1]
    assert list(ooh.Stats.__dataclass_fields__) == re.findall(r"uint64_t (\w+);", struct)


def test_typed():
    if not shutil.which("mypy"):
        pytest.skip("mypy is not installed")
    r = subprocess.run(["mypy", "--strict", "--ignore-missing-imports", "--cache-dir=/dev/null",
                        PACKAGE / "ooh",
                        PACKAGE / "examples/heat.py"], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout + r.stderr


def test_it_installs(tmp_path):
    """By pip, without a network; what is there then is enough."""
    for module in ("pip", "setuptools", "wheel"):
        if not importlib.util.find_spec(module):
            pytest.skip(f"python3-{module} is not installed")
    copy = shutil.copytree(PACKAGE, tmp_path / "source")
    r = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps",
                        "--no-build-isolation", "--target", tmp_path / "there", copy],
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    assert (tmp_path / "there/ooh/py.typed").exists()
    r = subprocess.run([sys.executable, "-c", "import ooh; print(ooh.version())"], cwd="/",
                       capture_output=True, text=True,
                       env={**ENV, "PYTHONPATH": str(tmp_path / "there")})
    assert r.returncode == 0 and re.fullmatch(r"\d+\.\d+\.\d+\n", r.stdout), r.stderr


def test_the_example_plots(tmp_path, child):
    need("pagemap-scan")
    if not importlib.util.find_spec("matplotlib"):
        pytest.skip("python3-matplotlib is not installed")
    out = tmp_path / "heat.png"
    p = subprocess.Popen([sys.executable, PACKAGE / "examples/heat.py", "-n", "5", "-i", "0.3",
                          "-b", "pagemap-scan", "-o", out, "-p", str(child.pid)],
                         env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while p.poll() is None:
        child.write_page(9)
        time.sleep(0.02)
    text, err = p.communicate(timeout=60)
    assert p.returncode == 0, err
    assert re.fullmatch(rf"{out}: 5 rounds, \d+ blocks of 64 KiB\n", text)
    assert out.read_bytes().startswith(b"\x89PNG")
