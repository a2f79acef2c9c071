# SPDX-License-Identifier: GPL-2.0-only
"""The C programs of this folder: exit status 0 pass, 1 fail, 77 skip, else an error."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# programs with a test of their own
ELSEWHERE = {"mapcost", "memsum", "onepage", "views", "writer"}


@pytest.fixture
def result(request, module, vm):
    r = vm.exec(f"/usr/lib/ooh/tests/{request.param}")
    print(r.stdout, r.stderr)
    if r.returncode not in (0, 1, 77):
        raise RuntimeError(f"{request.param} ended with {r.returncode}:\n{r.stdout}{r.stderr}")
    return r


@pytest.mark.parametrize("result", sorted({p.stem for p in HERE.glob("*.c")} - ELSEWHERE), indirect=True)
def test_program(result):
    if result.returncode == 77:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stdout
    # a program that checked nothing has proved nothing
    assert "ok:" in result.stdout


def test_mapping_costs_less_than_pagemap_scan(module, vm):
    r = vm.exec("/usr/lib/ooh/tests/mapcost")
    print(r.stdout)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("%") >= 3


def test_tracepoints(module, vm):
    """arm, drain and collect leave their events; overflow does with a tiny ring."""
    trace = "/sys/kernel/tracing"
    out = vm.good(
        f"echo 1 >{trace}/events/ooh/enable; echo >{trace}/trace; /usr/lib/ooh/tests/store >/dev/null;"
        f"cat {trace}/trace; echo 0 >{trace}/events/ooh/enable"
    )
    for event in ("ooh_arm:", "ooh_drain:", "ooh_collect:"):
        assert event in out
    assert "ooh_overflow:" not in out
    module("ring_pages=2")
    out = vm.good(
        f"echo 1 >{trace}/events/ooh/enable; echo >{trace}/trace; /usr/lib/ooh/tests/writer 2000 2 >/dev/null;"
        f"cat {trace}/trace; echo 0 >{trace}/events/ooh/enable"
    )
    assert "ooh_overflow: reason=0x1" in out
