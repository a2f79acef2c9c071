# SPDX-License-Identifier: GPL-2.0-only
"""The collector with OoH's dirty bits: its own tests, GCBench, programs of the
distribution, and that a missed page is found. make check-gc runs the long ones, too."""

import re

import pytest
from conftest import TOP, long

# how libooh may track the collecting process; the next mechanism is one more word
BACKENDS = ["epml", "spml"]
GC = "/usr/lib/ooh/gc"
PROGRAMS = TOP / "boehm-backend" / "programs"
DISTRIBUTION = TOP / "build" / "testbed" / "gcprograms" / "gcprograms"
OOH, MPROTECT, SOFT = "0x80", "0x1", "0x40"


def run(vm, *argv, lib="", env="", status=0, timeout=250, into=()):
    """argv in incremental mode, with the libgc.so.1 in GC/lib; what it
    printed. $PWD holds `into`."""
    path = f"LD_LIBRARY_PATH={lib}" if lib else ""
    r = vm.sh(f"GC_ENABLE_INCREMENTAL=1 GC_PRINT_STATS=1 {path} {env} {' '.join(argv)} 2>&1",
              timeout=timeout, into=into)
    assert status is None or r.returncode == status, (
        f"status {r.returncode}:\n{r.stdout[-2000:]}{r.stderr[-500:]}")
    return r.stdout


def used(out, backend):
    assert f"Using OoH, backend {backend} " in out, out[:2000]
    assert "OoH failed" not in out
    return out


@pytest.mark.parametrize("program", [long("events"), "events-threads"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_lost(vm, backend, program):
    """Static roots, old to new, late roots, growth, system calls, fork."""
    out = used(run(vm, f"{GC}/{program}", env=f"GC_USE_OOH={backend}"), backend)
    assert f"dirty bits by {OOH}" in out
    assert out.count("ok:") >= 9 and "FAIL" not in out


@pytest.mark.parametrize("test", ["cordtest", "smashtest", "hugetest", *(
    long(t) for t in ("disclaim_test", "disclaim_weakmap_test", "realloc_test", "staticrootstest",
                      "gctest"))])
@pytest.mark.parametrize("flavour", ["threads", "single"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_its_own(vm, backend, flavour, test):
    used(run(vm, f"{GC}/{flavour}/{test}", lib=f"{GC}/{flavour}", env=f"GC_USE_OOH={backend}",
             timeout=900), backend)


@pytest.mark.parametrize("mode", ["incremental", long("generational")])
@pytest.mark.parametrize("program", [long("gcbench 12"), "gcbench-threads 11 3"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gcbench_is_checked_against_mprotect(vm, backend, program, mode):
    """Each page that was faulted on is among those that OoH reported, and those are few more."""
    # 999999: a collection is not interrupted, only the generational part is left
    target = " GC_PAUSE_TIME_TARGET=999999" if mode == "generational" else ""
    env = f"GC_CHECK_OOH=1 GC_USE_OOH={backend}{target}"
    out = used(run(vm, f"{GC}/{program}", lib=f"{GC}/threads", env=env), backend)
    assert "gcbench: intact" in out
    checks = [[int(n) for n in c] for c in
              re.findall(r"OoH check \d+: (\d+) pages faulted \(\d+ in total\), (\d+) reported, "
                         r"(\d+) missed", out)]
    assert len(checks) > 10 and sum(c[0] for c in checks) > 500
    assert not any(c[2] for c in checks)


@pytest.mark.parametrize("program", ["gcbench 12", long("checksums/gctest")])
@pytest.mark.parametrize("backend", BACKENDS)
def test_checksums(vm, backend, program):
    out = used(run(vm, f"{GC}/{program}", lib=f"{GC}/checksums", env=f"GC_USE_OOH={backend}",
                   timeout=900), backend)
    assert len(re.findall(r"^Checked \d+ clean and \d+ dirty", out, re.M)) > 5
    assert "dirty bit errors" not in out and "is wrong" not in out


def test_checksums_find_a_library_that_lies(vm):
    # how the program ends is a matter of luck
    out = run(vm, f"{GC}/gcbench 10", lib=f"{GC}/liar:{GC}/checksums",
              env="OOH_REAL=/usr/lib/libooh.so.0", status=None)
    assert "dirty bit errors" in out


@pytest.mark.parametrize("fault", ["norearm", "droprecord"])
def test_a_planted_fault_ends_the_check(module, fault):
    vm = module(f"inject={fault}")
    out = run(vm, f"{GC}/gcbench 12", lib=f"{GC}/threads", env="GC_CHECK_OOH=1 GC_USE_OOH=spml",
              status=134)
    assert "OoH missed dirty pages" in out


def test_a_lost_log_makes_everything_dirty(module):
    """All pages are dirty then, and nothing is lost."""
    vm = module("inject=lost")
    out = used(run(vm, f"{GC}/gcbench 12", lib=f"{GC}/threads",
                   env="GC_CHECK_OOH=1 GC_USE_OOH=spml"), "spml")
    assert "gcbench: intact" in out and " 0 missed" in out


@pytest.mark.parametrize("env,vdb", [("GC_USE_OOH=1", OOH), ("", OOH), ("GC_USE_OOH=0", SOFT),
                                     ("GC_USE_GETWRITEWATCH=0", MPROTECT),
                                     ("GC_USE_OOH=no-such", SOFT),
                                     ("GC_USE_OOH=0 GC_USE_GETWRITEWATCH=0", MPROTECT)])
def test_choice(vm, env, vdb):
    out = run(vm, f"{GC}/gcbench 6", env=env)
    assert f"dirty bits by {vdb}" in out


def test_without_the_library(vm):
    """The patched collector needs no libooh."""
    out = vm.good(f"mv /usr/lib/libooh.so.0 /usr/lib/away; GC_ENABLE_INCREMENTAL=1 {GC}/gcbench 6; "
                  "mv /usr/lib/away /usr/lib/libooh.so.0")
    assert f"dirty bits by {SOFT}" in out


@pytest.mark.parametrize("backend", BACKENDS)
def test_programs_of_the_distribution(vm, backend, tmp_path):
    """guile and w3m, as the distribution built them, on the guest's libgc.so.1."""
    rows = "".join(f"<tr><td>{i}<td>row {i}</tr>" for i in range(300))
    page = tmp_path / "page.html"
    page.write_text(f"<table border>{rows}</table>")
    lib, into = "$PWD/gcprograms/lib", [DISTRIBUTION.resolve(), PROGRAMS / "trees.scm", page]
    env = f"GC_USE_OOH={backend} LC_ALL=C.UTF-8 GUILE_SYSTEM_COMPILED_PATH=$PWD/gcprograms/ccache"
    out = used(run(vm, "gcprograms/guile --no-auto-compile trees.scm", lib=lib, env=env, into=into),
               backend)
    assert re.search(r"^4096$", out, re.M)
    out = used(run(vm, "gcprograms/w3m -dump -T text/html page.html", lib=lib, env=env, into=into),
               backend)
    assert "row 299" in out
