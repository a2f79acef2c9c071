# SPDX-License-Identifier: GPL-2.0-only
"""EPML alone, the log that the processor writes for the guest: no exit for a record, logs
that fill or are corrupt, arming by hypercall where there are no VM functions, and one
mechanism at a time. All the other tests check that it misses nothing."""

import judge
import pytest
from testbed import oohjson

TESTS = "/usr/lib/ooh/tests"
CHANGERS = f"{TESTS}/changers"


def test_both_are_usable(vm):
    assert {"epml", "spml"} <= oohjson.usable(vm.good("ooh backends --json")).keys()


@pytest.mark.parametrize("log, arguments, module_parameters", [
    ("epml", "", ""), ("epml", "hypercall", "epml_vmfunc=N"), ("spml", "", "")])
def test_exits_of_a_round(module, log, arguments, module_parameters):
    vm = module(module_parameters)
    r = vm.sh(f"OOH_TESTED={log} {TESTS}/round_exits {arguments}")
    print(r.stdout)
    assert r.returncode == 0, r.stdout + r.stderr
    assert "ok:" in r.stdout


def test_a_full_log_and_a_spoilt_one(module):
    vm = module()
    r = vm.sh(f"insmod {TESTS}/burst.ko && OOH_TESTED=epml {TESTS}/burst; s=$?; rmmod burst; "
              "exit $s")
    print(r.stdout)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("ok:") > 30


@pytest.mark.parametrize("way", ["store", "threads", "map", "huge", "fork", "file"])
def test_armed_by_hypercall(module, way):
    """As on a processor with EPML, but without its VM functions."""
    vm = module("epml_vmfunc=N")
    doc = judge.sound(vm.exec("ooh", "verify", "--json", "-b", "epml", "-n", "6", "-i", "50", "--",
                              CHANGERS, way))
    assert not any(r["all_dirty"] for r in doc["rounds"])


@pytest.mark.parametrize("first, second", [("epml", "spml"), ("spml", "epml")])
def test_one_mechanism_at_a_time(module, first, second):
    """The first tracker decides.

    Whoever asks for the other gets an error; whoever does not care gets what there is."""
    vm = module()
    r = vm.sh(f"{CHANGERS} store >/dev/null & p=$!; ooh record -b {first} -i 20 -p $p >/dev/null & "
              "o=$!; sleep 0.5; "
              f"ooh record -b {second} -n 2 -i 20 -p $p; echo $?; "
              f"ooh record -b {first} -n 2 -i 20 -p $p >/dev/null; echo $?; "
              f"ooh record --json -n 1 -i 20 -p $p | grep -o 'backend\": \"....'; "
              f"kill $o; wait $o; ooh record -b {second} -n 2 -i 20 -p $p >/dev/null; echo $?; "
              "kill $p")
    assert r.stdout.split() == ["3", "0", 'backend":', f'"{first}', "0"], r.stdout
    assert "one at a time" in r.stderr


@pytest.mark.parametrize("settings, words", [
    ("spml=0 epml=1", "epml requires spml"),
    ("spml=1 epml=1 nestedhvm=1", "nested"),
    ("spml=1 epml=1", None),
])
def test_creation(vm, settings, words):
    lines = " ".join(f"'{s}'" for s in ["name=\"other\"", "memory=128", *settings.split()])
    r = vm.dom0("grep -v '^name\\|^memory\\|^ramdisk\\|^.pml' /guest/xl.cfg >/tmp/other.cfg; "
                f"printf '%s\\n' {lines} >>/tmp/other.cfg; "
                "xl create -p /tmp/other.cfg; s=$?; xl destroy other 2>/dev/null; exit $s",
                timeout=120)
    if words is None:
        assert r.returncode == 0, r.stderr
    else:
        assert r.returncode != 0 and words in r.stderr.lower()
