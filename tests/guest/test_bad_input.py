# SPDX-License-Identifier: GPL-2.0-only
"""Bad input is refused with a message that names the cause, and leaves nothing behind."""

import judge
import pytest
from conftest import LOGS, SOFTWARE

BACKENDS = LOGS + SOFTWARE
CHANGERS = "/usr/lib/ooh/tests/changers"
# what insmod's user reads
LAST_WORDS = "dmesg | grep 'ooh: ' | tail -1"


def test_unknown_backend(vm):
    r = vm.exec("ooh", "verify", "-b", "dirty-harry", "-p", "1")
    assert r.returncode == 2
    assert "dirty-harry" in r.stderr and "spml" in r.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_such_pid(vm, backend):
    r = vm.exec("ooh", "verify", "-b", backend, "-p", "4000000")
    assert r.returncode == 3
    assert "4000000" in r.stderr and "process" in r.stderr.lower()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_of_another_user(vm, backend):
    """An unprivileged user cannot look into root's processes, with any backend."""
    r = vm.sh(f"{CHANGERS} store >/dev/null & exec su user -s /bin/sh -c 'ooh verify -b {backend} "
              "-n 1 -p $0' $!")
    assert r.returncode == 3, r.stdout + r.stderr
    assert "permi" in r.stderr.lower()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_process_exits_in_mid_round(vm, backend):
    r = vm.sh(f"{CHANGERS} map >/dev/null & p=$!; (sleep 1; kill -9 $p) & "
              f"ooh verify --json -b {backend} -n 1000 -i 50 -p $p")
    doc = judge.verified(r, status=4)
    assert "ended" in r.stderr or "exited" in r.stderr
    assert 0 < len(doc["rounds"]) < 1000
    assert doc["total"]["missed"] == 0


@pytest.mark.parametrize("log", LOGS)
def test_the_tracker_is_killed_in_mid_round(module, log):
    """However its owner ends, the module frees the tracker, and can be unloaded."""
    vm = module()
    r = vm.sh(f"{CHANGERS} map >/dev/null & p=$!; ooh record -b {log} -i 20 -p $p >/dev/null & "
              "o=$!; sleep 1; "
              "kill -9 $o; wait $o; kill -0 $p && kill -9 $p; sleep 0.2; rmmod ooh")
    assert r.returncode == 0, r.stderr


def test_no_device(module):
    vm = module()
    vm.good("rmmod ooh")
    for log in LOGS:
        r = vm.exec("ooh", "verify", "-b", log, "-n", "1", "--", "sleep", "5")
        assert r.returncode == 3
        assert "/dev/ooh" in r.stderr
    # the automatic choice goes on without it, and says so
    doc = judge.verified(vm.exec("ooh", "verify", "--json", "-n", "2", "-i", "50", "--", CHANGERS,
                                 "store"))
    assert doc["backend"] == "pagemap-scan"
    assert all(log in doc["reason"] for log in LOGS) and "/dev/ooh" in doc["reason"]


def test_a_parameter_of_the_wrong_kind(module):
    vm = module()
    vm.good("rmmod ooh")
    assert vm.exec("insmod", "/usr/lib/ooh/ooh.ko", "epml_vmfunc=many").returncode != 0
    assert vm.exec("test", "-e", "/dev/ooh").returncode == 1


@pytest.mark.parametrize("config", ["nospml", "plainxen"])
def test_a_xen_that_offers_nothing(machines, config):
    """Without spml=1, or without our patches, the module names the cause, and software trackers
    work."""
    m = machines(config)
    assert m.exec("insmod", "/usr/lib/ooh/ooh.ko").returncode != 0
    words = m.good(LAST_WORDS)
    assert "offers no SPML" in words and "spml=1" in words
    r = m.exec("ooh", "verify", "-b", "spml", "-n", "1", "--", "sleep", "5")
    assert r.returncode == 3 and "/dev/ooh" in r.stderr
    doc = judge.verified(m.exec("ooh", "verify", "--json", "-n", "2", "-i", "50", "--", CHANGERS,
                                "store"))
    assert doc["backend"] == "pagemap-scan"
    m.down()
