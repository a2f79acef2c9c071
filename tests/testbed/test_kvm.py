# SPDX-License-Identifier: GPL-2.0-only
"""A guest of KVM (the machine "kvm"): the host is the distribution's kernel, in the same emulator,
QEMU runs the image that is Xen's guest elsewhere, and testbed/vm reaches both."""

import json
import re
import subprocess
import time

import pytest
from conftest import SOFTWARE, VM

TESTS = "/usr/lib/ooh/tests"


@pytest.fixture(scope="module")
def kvm(machines):
    return machines("kvm")


def test_the_host_is_the_distributions_kvm_with_pml(kvm):
    r = kvm.host("cd /sys/module/kvm_intel/parameters && cat pml ept eptad; uname -r; cat /proc/sys/kernel/tainted")
    assert r.returncode == 0, r.stderr
    assert r.stdout.split() == ["Y", "Y", "Y", kvm.good("uname -r").strip(), "0"]


def test_the_guest_runs_on_it(kvm):
    assert "Hypervisor detected: KVM" in kvm.good("dmesg")
    assert kvm.sh("test -e /sys/hypervisor/type").returncode == 1
    # and has a bus for a device
    assert kvm.good("cat /sys/bus/pci/devices/0000:00:00.0/class").strip() == "0x060000"
    # an emulated copy would see to SMAP for each access of the kernel, see testbed/configs
    assert not re.search(r"\bsmap\b", kvm.good("cat /proc/cpuinfo"))


def test_its_memory_is_the_hosts(kvm):
    """What the guest writes to is one process's, and no part of the host's own."""
    script = "grep -h VmRSS /proc/$(pidof qemu-system-x86_64)/status"
    before, = re.findall(r"(\d+) kB", kvm.host(script).stdout)
    kvm.good("head -c 40000000 /dev/zero >/dev/shm/f")
    after, = re.findall(r"(\d+) kB", kvm.host(script).stdout)
    kvm.good("rm /dev/shm/f")
    assert int(after) - int(before) > 30_000


@pytest.mark.parametrize("verb", ["exec", "host"])
def test_status_and_streams(kvm, verb):
    r = kvm.run(verb, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (r.returncode, r.stdout, r.stderr) == (7, "out\n", "err\n")
    assert kvm.run(verb, "sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert kvm.run(verb, "no-such-command").returncode == 127


@pytest.mark.parametrize("verb", ["exec", "host"])
def test_data_comes_through_and_as_it_is_made(kvm, verb):
    data = bytes(range(256)) * 8_000
    r = kvm.run(verb, "cat", text=False, stdin=None, input=data)
    assert r.stdout == data
    p = subprocess.Popen([VM, verb, "--config", "kvm", "--", "sh", "-c", "echo first; sleep 3; echo second"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"first\n"
    assert p.poll() is None
    assert p.communicate(timeout=60)[0] == b"second\n" and p.returncode == 0


def test_no_log_is_said_to_be_none(kvm):
    """Nothing offers the processor's log to this guest."""
    lines = dict(line.split(maxsplit=1) for line in kvm.good("ooh backends").splitlines())
    for log in ("epml", "spml"):
        assert re.match(r"not usable +\S+ .*not loaded", lines[log]), lines[log]
    for backend in SOFTWARE:
        assert lines[backend].startswith("usable"), lines[backend]
    r = kvm.exec("ooh", "record", "-b", "spml", "-n", "1", "--", "sleep", "5")
    assert r.returncode not in (0, 124, 125) and "not loaded" in r.stderr


@pytest.mark.parametrize("backend", SOFTWARE)
def test_verify(kvm, backend):
    r = kvm.exec("ooh", "verify", "--json", "-b", backend, "-n", "5", "-i", "50", "--", f"{TESTS}/changers", "store")
    assert r.returncode == 0, r.stdout[-1000:] + r.stderr
    doc = json.loads(r.stdout)
    assert doc["backend"] == backend
    assert doc["total"]["missed"] == 0 < doc["total"]["changed"]


def test_restored_from_its_snapshot(kvm):
    kvm.good("echo x >/tmp/left-behind")
    assert kvm.host("echo x >/tmp/left-behind").returncode == 0
    kvm.down()
    began = time.monotonic()
    assert kvm.exec("test", "-e", "/tmp/left-behind").returncode == 1
    assert kvm.host("test -e /tmp/left-behind").returncode == 1
    assert time.monotonic() - began < 60
    for sh in (kvm.sh, kvm.host):
        a, b = map(float, sh("cut -d' ' -f1 /proc/uptime; sleep 0.5; cut -d' ' -f1 /proc/uptime").stdout.split())
        assert 0.49 <= b - a < 30


@pytest.mark.provokes(r"sysrq|Kernel panic|Call Trace|panic|CPU: .* PID|</?TASK>|BUG")
@pytest.mark.parametrize("end,text", [
    ("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 1000", "panic"),
    ("echo o >/proc/sysrq-trigger; sleep 1000", "QEMU ended")])
def test_a_guest_that_ends(kvm, end, text):
    """A result that names the cause, and a machine that is there again for the next."""
    r = kvm.sh(end, timeout=120)
    assert r.returncode == 125, (r.stdout, r.stderr)
    assert text in r.stderr
    assert kvm.exec("true").returncode == 0
