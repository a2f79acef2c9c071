# SPDX-License-Identifier: GPL-2.0-only
"""The generator of hard processes (tests/hard) under every backend: everything that changes
memory, mixed, at least 100 000 operations under each log (make soak: ten millions). What a
tracker of the kernel misses by design is a row of the table, not a failure; what it misses
elsewhere is one."""

import os
from pathlib import Path

import pytest

from conftest import LOGS, MACHINE, long
from hard import soaking

# What each of the kernel's trackers misses by design: docs/soundness.md says why.
BY_DESIGN = {"pagemap-scan": ["io-uring-fixed"], "uffd-wp": ["io-uring-fixed"],
             "soft-dirty": ["merge", "move-table"]}

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def rows(request):
    """Results; the table of them is printed at the end, and is in build/hard.txt."""
    results = []
    yield results
    text = soaking.table(results)
    (Path(os.environ["OOH_BUILD"]) / "hard.txt").write_text(text + "\n")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{text}", flush=True)


@pytest.fixture(scope="module")
def ready(vm):
    with soaking.prepared(vm):
        yield vm


def sound(result, ops):
    print(soaking.kinds_table(result))
    assert result.ops == ops
    assert result.sum["missed"] == 0 < result.sum["changed"]
    assert result.rounds >= ops / 10000
    # and not because everything is reported
    assert result.all_dirty == 0
    assert result.sum["extra"] < result.sum["mapped"] / 2


@pytest.mark.parametrize("log", LOGS)
def test_a_log(ready, rows, log):
    result = soaking.Result(MACHINE, log)
    rows.append(result)
    assert not soaking.run(ready, result, 100_000)
    sound(result, 100_000)
    # each kind was drawn and took effect
    assert result.missing() == [] and result.never() == {}


@pytest.mark.parametrize("log", LOGS)
def test_a_log_on_two_processors(machines, rows, log):
    """The workers are pinned: they write at the same time there; and the Xen has assertions."""
    m = machines("debug")
    result = soaking.Result("debug", log)
    rows.append(result)
    with soaking.prepared(m):
        assert not soaking.run(m, result, 20_000, seed=2)
    sound(result, 20_000)


@pytest.mark.parametrize("everything", [False, long(True)])
@pytest.mark.parametrize("backend", BY_DESIGN)
def test_the_kernels_trackers(ready, rows, backend, everything):
    """Whatever they miss, it is by these kinds of operations: without them it is nothing. With them
    it is a row of the table."""
    result = soaking.Result(MACHINE, backend, [] if everything else BY_DESIGN[backend])
    rows.append(result)
    soaking.run(ready, result, 20_000)
    assert result.ops == 20_000 and result.sum["changed"] > 0
    assert everything or result.sum["missed"] == 0, result.where


@pytest.mark.parametrize("log", [LOGS[0], *map(long, LOGS[1:])])
def test_lives(ready, rows, log):
    """It starts itself anew, at the same addresses, and a process that shares
    the old memory lives on."""
    result = soaking.Result(MACHINE, log)
    rows.append(result)
    assert not soaking.run(ready, result, 15_000, lives=3)
    assert result.ops == 15_000
    assert result.sum["missed"] == 0 < result.sum["changed"]
    # of each exec a round; the first, for the addresses, may be before the tracker
    assert result.all_dirty in (2, 3)


@pytest.mark.parametrize("log, fault", [("spml", "norearm"), ("epml", "droprecord")])
def test_a_planted_fault_is_found(ready, module, log, fault):
    module(f"inject={fault}")
    result = soaking.Result(MACHINE, log)
    assert soaking.run(ready, result, 10_000)
    assert result.sum["missed"] > 0
