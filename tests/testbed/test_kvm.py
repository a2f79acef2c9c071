# SPDX-License-Identifier: GPL-2.0-only
"""A guest of KVM (the machine "kvm"): the host is the distribution's kernel, in the same emulator,
QEMU runs the image that is Xen's guest elsewhere, and testbed/vm reaches both."""

import re
import subprocess
import time

import pytest
from conftest import SOFTWARE, VM
from guest.test_verify import fault_is_found, few_extra, nothing_missed, verify
from hard import soaking
from hard.test_hard import sound

TESTS = "/usr/lib/ooh/tests"


@pytest.fixture(scope="module")
def kvm(machines):
    return machines("kvm")


def test_the_host_is_the_distributions_kvm_with_pml(kvm):
    r = kvm.host("cd /sys/module/kvm_intel/parameters && cat pml ept eptad; uname -r; "
                 "cat /proc/sys/kernel/tainted")
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
    """The memory to which the guest writes is that of one process of the host."""
    # with memory that it has not used yet
    kvm.down()
    kvm.up()
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
    p = subprocess.Popen([VM, verb, "--config", "kvm", "--", "sh", "-c",
                          "echo first; sleep 3; echo second"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"first\n"
    assert p.poll() is None
    assert p.communicate(timeout=60)[0] == b"second\n" and p.returncode == 0


def test_the_log_comes_through_qemu(kvm):
    kvm.good("rmmod ooh 2>/dev/null; test ! -e /dev/ooh")
    lines = backends(kvm)
    for log in ("epml", "spml"):
        assert re.match(r"not usable +\S+ .*not loaded.*QEMU's device ooh-pml",
                        lines[log]), lines[log]
    kvm.good("/usr/lib/ooh/reload; test -e /dev/ooh")
    lines = backends(kvm)
    assert re.match(r"usable .*KVM, through QEMU's device", lines["spml"])
    assert re.match(r"not usable .*KVM offers no EPML", lines["epml"])
    for backend in SOFTWARE:
        assert lines[backend].startswith("usable"), lines[backend]
    r = kvm.exec("ooh", "record", "-b", "epml", "-n", "1", "--", "sleep", "5")
    assert r.returncode not in (0, 124, 125) and "KVM offers no EPML" in r.stderr


def backends(m):
    return dict(line.split(maxsplit=1) for line in m.good("ooh backends").splitlines())


def test_nothing_tracked_costs_nothing(kvm):
    """The host logs while somebody is tracked, and not before or after."""
    kvm.good("/usr/lib/ooh/reload")
    device = kvm.host("hmp info qom-tree /machine/peripheral-anon").stdout
    path, = re.findall(r"/(device\[\d+\]) \(ooh-pml\)", device)
    started = f"hmp qom-get /machine/peripheral-anon/{path} started"
    assert "false" in kvm.host(started).stdout
    kvm.good("setsid ooh record -b spml -n 100000 -i 100 -p 1 </dev/null >/run/out 2>&1 & "
             "for i in $(seq 50); do [ -s /run/out ] && break; sleep 0.1; done")
    assert "true" in kvm.host(started).stdout
    kvm.good("pkill -x ooh; while pgrep -x ooh; do sleep 0.1; done")
    assert "false" in kvm.host(started).stdout


@pytest.mark.parametrize("program", ["store", "absent", "huge", "kernel_write", "many_mappings",
                                     "mapping", "markers", "poll", "remapped", "several", "stopped",
                                     "unheld"])
def test_program(kvm, program):
    """Those of tests/guest that the log has a part in. make check-kvm runs all."""
    kvm.good("/usr/lib/ooh/reload")
    r = kvm.exec("env", "OOH_TESTED=spml", f"{TESTS}/{program}")
    print(r.stdout, r.stderr)
    assert r.returncode == 0 and "ok:" in r.stdout


@pytest.mark.parametrize("way", ["threads", "map", "fork", "shared", "file", "huge"])
def test_verify_by_the_log(kvm, way):
    few_extra(nothing_missed(kvm, "spml", way))


@pytest.mark.parametrize("fault", ["norearm", "droprecord"])
def test_a_planted_fault_is_found(kvm, fault):
    kvm.good(f"/usr/lib/ooh/reload inject={fault}")
    fault_is_found(kvm, "spml")


def test_the_next_tracker_reports_no_more(kvm):
    """When the last tracker ends, KVM takes away what it mapped by small pages. What it maps anew
    is written for it: all that the oracle reads, if the module had not touched it before."""
    kvm.good("/usr/lib/ooh/reload; redis-server --port 6379 --save '' --daemonize yes; sleep 1; "
             "redis-benchmark -t set -n 6000 -r 3000 -d 1024 -P 64 -c 4 -q")
    for _ in range(3):
        r, *_ = verify(kvm, "-b", "spml", "-n", "2", "-i", "50",
                       "-p", kvm.good("pidof redis-server").strip())["rounds"]
        assert r["mapped"] > 2000 and r["reported"] < r["mapped"] / 4, r
    kvm.good("pkill -x redis-server")


def test_a_hard_process(kvm):
    """The generator: 20,000 operations; O_DIRECT is by QEMU's disk. make check-kvm has more."""
    kvm.good("/usr/lib/ooh/reload")
    result = soaking.Result("kvm", "spml")
    with soaking.prepared(kvm):
        assert not soaking.run(kvm, result, 20_000)
    sound(result, 20_000)
    assert result.kinds["o-direct"]["done"] > 0


def test_restored_from_its_snapshot(kvm):
    kvm.good("echo x >/tmp/left-behind")
    assert kvm.host("echo x >/tmp/left-behind").returncode == 0
    kvm.down()
    began = time.monotonic()
    assert kvm.exec("test", "-e", "/tmp/left-behind").returncode == 1
    assert kvm.host("test -e /tmp/left-behind").returncode == 1
    assert time.monotonic() - began < 60
    for sh in (kvm.sh, kvm.host):
        a, b = map(float, sh("cut -d' ' -f1 /proc/uptime; sleep 0.5; "
                             "cut -d' ' -f1 /proc/uptime").stdout.split())
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
