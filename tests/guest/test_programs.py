# SPDX-License-Identifier: GPL-2.0-only
"""The C programs of this folder: exit status 0 pass, 1 fail, 77 skip, else an error."""

import re
from pathlib import Path

import pytest
from conftest import LOGS, LONG

HERE = Path(__file__).parent
# programs with a test of their own
ELSEWHERE = {"burst", "criu_tip", "faultfd", "mapcost", "memsum", "merged", "migrating", "mirror",
             "onepage", "plugged", "read_by_device", "refused", "roomy", "rpcdump", "round_exits",
             "samemem", "uffd_away", "altp2m_pages", "waiting", "writer"}
# they go through the backends themselves
ALL_AT_ONCE = {"backends", "closed", "exec_same", "leader", "self"}
# they need a disk: tests/hard/prepare
ON_DISK = {"coarse": ["coarse", "vfat"], "device": ["hard"], "swapped": ["hard"]}
ELSEWHERE |= ON_DISK.keys()
PROGRAMS = sorted({p.stem for p in HERE.glob("*.c")} - ELSEWHERE)


@pytest.fixture
def result(request, module, vm):
    program, *log = request.param.split()
    env = [f"OOH_TESTED={name}" for name in log] + ["OOH_WITHOUT=epml"] * ("epml" not in LOGS)
    r = vm.exec("env", *env, f"/usr/lib/ooh/tests/{program}")
    print(r.stdout, r.stderr)
    if r.returncode not in (0, 1, 77):
        raise RuntimeError(f"{request.param} ended with {r.returncode}:\n{r.stdout}{r.stderr}")
    return r


@pytest.mark.parametrize("result", [p for p in PROGRAMS if p in ALL_AT_ONCE] +
                         [f"{p} {log}" for p in PROGRAMS if p not in ALL_AT_ONCE for log in LOGS],
                         indirect=True)
def test_program(result):
    if result.returncode == 77:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stdout
    # a program that checked nothing has proved nothing
    assert "ok:" in result.stdout


@pytest.fixture
def disks(module, vm):
    vm.good("/usr/lib/ooh/hard/prepare disks")
    yield vm
    vm.good("/usr/lib/ooh/hard/prepare no-disks")


@pytest.mark.parametrize("program", ON_DISK)
@pytest.mark.parametrize("log", LOGS)
def test_program_with_a_disk(disks, log, program):
    for disk in ON_DISK[program]:
        r = disks.exec("env", f"OOH_TESTED={log}", f"OOH_DIR=/mnt/{disk}", "OOH_DEVICE=/dev/ram3",
                       f"/usr/lib/ooh/tests/{program}")
        print(disk, r.stdout, r.stderr, sep="\n")
        assert r.returncode == 0 and "ok:" in r.stdout, disk


@pytest.mark.parametrize("log", LOGS)
def test_mapping_costs_less_than_pagemap_scan(module, vm, log):
    r = vm.exec("env", f"OOH_TESTED={log}", "/usr/lib/ooh/tests/mapcost")
    print(r.stdout)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("%") >= 3


@LONG
@pytest.mark.parametrize("backend", [*LOGS, "pagemap-scan"])
def test_a_round_ends_while_pages_move(module, vm, backend):
    """Not soft-dirty, which misses some of them; nor uffd-wp, which has pagemap-scan's marks, and
    takes hours for that many faults."""
    r = vm.exec("/usr/lib/ooh/tests/migrating", backend, "30", timeout=800)
    print(r.stdout)
    assert r.returncode == 0, r.stdout + r.stderr
    assert int(re.search(r": (\d+) of 30 rounds", r.stdout).group(1)) > 0


@pytest.mark.parametrize("log", LOGS)
def test_tracepoints(module, vm, log):
    """arm, drain and collect leave their events, and so does each record of a log of the guest's;
    ooh_lost does when a log was."""
    trace = "/sys/kernel/tracing"
    out = vm.good(
        f"echo 1 >{trace}/events/ooh/enable; echo >{trace}/trace; "
        f"OOH_TESTED={log} /usr/lib/ooh/tests/store >/dev/null;"
        f"cat {trace}/trace; echo 0 >{trace}/events/ooh/enable"
    )
    for event in ("ooh_arm:", "ooh_drain:", "ooh_collect:"):
        assert event in out
    assert "ooh_lost:" not in out
    # linear addresses of the process and frames; of page walks, too
    assert bool(re.search(r"ooh_record: gva=0x7f\w+000 gpa=0x\w+000 user\b",
                          out)) == (log == "epml")
    assert bool(re.search(r"ooh_record: .* walk\b", out)) == (log == "epml")
    if log == "epml":
        return
    module("inject=lost")
    out = vm.good(
        f"echo 1 >{trace}/events/ooh/enable; echo >{trace}/trace; "
        "OOH_TESTED=spml /usr/lib/ooh/tests/writer 2000 2 >/dev/null;"
        f"cat {trace}/trace; echo 0 >{trace}/events/ooh/enable"
    )
    assert "ooh_lost: reason=0x1" in out
