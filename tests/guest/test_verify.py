# SPDX-License-Identifier: GPL-2.0-only
"""ooh verify in the guest: with each backend nothing is missed, and with a fault
put in the oracle says so."""

import json
import re

import judge
import pytest
from conftest import LOGS, LONG, SOFTWARE, WAYS
from testbed import oohjson

TESTS = "/usr/lib/ooh/tests"


def verify(vm, *args, status=0, timeout=200):
    return judge.verified(vm.exec("ooh", "verify", "--json", *args, timeout=timeout), status)


# tests/host/test_native.py has all ways with those trackers that this machine's kernel offers
NATIVELY = ["pagemap-scan", "uffd-wp"]
SOME = ["store", "huge", "file"]


def nothing_missed(vm, backend, way):
    """Of what a changer writes; nor is all of it reported in any round."""
    doc = verify(vm, "-b", backend, "-n", "6", "-i", "50", "--", f"{TESTS}/changers", way)
    assert doc["backend"] == backend and len(doc["rounds"]) == 6
    assert doc["total"]["missed"] == 0 < doc["total"]["changed"]
    assert not any(r["all_dirty"] for r in doc["rounds"])
    return doc


def few_extra(doc):
    assert doc["total"]["extra"] < sum(r["mapped"] for r in doc["rounds"]) / 2


@pytest.mark.parametrize("backend, way", [
    pytest.param(b, w, marks=LONG if b in NATIVELY and w not in SOME else ())
    for b in LOGS + SOFTWARE for w in WAYS])
def test_nothing_missed_in_the_guest(vm, backend, way):
    doc = nothing_missed(vm, backend, way)
    # The other direction: what did not change is not reported. The software
    # trackers have to take every page of a mapped file for written, which is most
    # of what is mapped here; backends.c has them to the page.
    if backend in LOGS:
        few_extra(doc)


def test_epml_is_the_automatic_choice(vm):
    doc = verify(vm, "-n", "2", "-i", "50", "--", f"{TESTS}/changers", "store")
    assert doc["backend"] == "epml"
    assert doc["reason"]


def fault_is_found(vm, log):
    """The oracle bites: with the fault that was put in pages are missed and the command fails;
    without it again, none."""
    doc = verify(vm, "-b", log, "-n", "8", "-i", "50", "--", f"{TESTS}/changers", "store", status=1)
    assert doc["total"]["missed"] > 0
    assert doc["missed_pages"]
    vm.good("echo none >/sys/module/ooh/parameters/inject")
    doc = verify(vm, "-b", log, "-n", "8", "-i", "50", "--", f"{TESTS}/changers", "store")
    assert doc["total"]["missed"] == 0


@pytest.mark.parametrize("fault", ["norearm", "droprecord"])
@pytest.mark.parametrize("log", LOGS)
def test_a_planted_fault_is_found(module, log, fault):
    fault_is_found(module(f"inject={fault}"), log)


def test_a_round_of_several_hypercalls(vm):
    """156 MiB are more groups of frames than Xen hands out at a time: each round
    has all of its own pages."""
    out = vm.good(f"OOH_TESTED=spml {TESTS}/writer 40000 3")
    assert out.count("40000 of 40000 reported, flags 0 reason 0") == 3


LOSE = "echo lost >/sys/module/ooh/parameters/inject;"


@pytest.mark.parametrize("log", LOGS)
def test_a_lost_log(module, log):
    """Xen was stopped behind the module's back, as in a migration: told with its
    reason, nothing missed."""
    vm = module()
    out = vm.good(f"export OOH_TESTED={log}; {LOSE} {TESTS}/writer 1000 4")
    # the first collect finds it; then all is as before
    assert out.count("flags 0x2 reason 0x1") == 1 and out.count("flags 0 reason 0") == 3
    doc = verify(vm, "-b", log, "-n", "4", "-i", "50", "--", f"{TESTS}/changers", "store")
    assert doc["total"]["missed"] == 0


# writes 2048 pages again and again
GREEDY = "dd if=/dev/zero of=/dev/null bs=8M"


def told(vm, sub, reason, before="", params="-n 6 -i 100"):
    """Rounds in which everything was reported, as text and as JSON, with time and reason."""
    text = vm.good(f"{before} ooh {sub} -b spml {params} -- {GREEDY} 2>/dev/null")
    at = re.findall(r"everything.*at (\d\d:\d\d:\d\d): (.*)", text)
    out = vm.good(f"{before} ooh {sub} -b spml --json {params} -- {GREEDY} 2>/dev/null")
    # record has a line for each round, verify one document
    every = oohjson.rounds(out) if sub == "record" else oohjson.verified(out)["rounds"]
    rounds = [r for r in every if r["all_dirty"]]
    assert sub == "record" or json.loads(out)["total"]["all_dirty"] == len(rounds)
    for r in rounds:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", r["time"])
    for why in [w for _, w in at] + [r["reason"] for r in rounds]:
        assert why == reason
    for r in every:
        assert r["all_dirty"] or not r["reason"]
    return len(at), len(rounds)


@pytest.mark.parametrize("sub", ["record", "verify"])
def test_a_lost_log_is_told(module, sub):
    """Put in before each command, the fault strikes at the first collect of it, and only there."""
    vm = module()
    assert told(vm, sub, "the guest was restored or migrated", LOSE) == (1, 1)
    assert told(vm, sub, "", params="-n 3 -i 100") == (0, 0)


@pytest.mark.parametrize("log", LOGS)
def test_two_processes_at_once(vm, log):
    """Each tracker sees its own process only, and all of it."""
    r = vm.sh(
        f"for w in store map heap; do ooh verify --json -b {log} -n 6 -i 50 -- {TESTS}/changers $w "
        ">$w & p=\"$p $!\"; done;"
        "for i in $p; do wait $i || exit 1; done; for w in store map heap; do cat $w; echo; done"
    )
    assert r.returncode == 0, r.stderr
    decode, text, docs = json.JSONDecoder(), r.stdout.strip(), []
    while text:
        doc, end = decode.raw_decode(text)
        docs.append(doc)
        text = text[end:].strip()
    assert len(docs) == 3
    for doc in docs:
        assert doc["total"]["missed"] == 0 and doc["total"]["changed"] > 0
        assert not any(r["all_dirty"] for r in doc["rounds"])
