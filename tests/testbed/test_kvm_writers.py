# SPDX-License-Identifier: GPL-2.0-only
"""A guest of KVM: whoever writes to a process's memory is in its log, beside the guest's CPUs
QEMU's devices and the host's own; and what the host does with the guest's memory meanwhile takes
nothing out of it."""

import json
import os
import re
from pathlib import Path

import pytest
from conftest import LONG
from guest.test_verify import few_extra, nothing_missed, verify

TESTS = "/usr/lib/ooh/tests"
MODULES = "/usr/lib/ooh/modules"
SAMEMEM = Path(os.environ["OOH_BUILD"]) / "guest" / TESTS[1:] / "samemem"
GUEST_MIB = 1280

# the guest is told to have other memory, or the host's kernel moves it
RECLAIM = """mkdir -p /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
    echo +memory >/sys/fs/cgroup/cgroup.subtree_control; mkdir -p /sys/fs/cgroup/guest
    pidof qemu-system-x86_64 >/sys/fs/cgroup/guest/cgroup.procs
    grep -q /dev/ram0 /proc/swaps || { mkswap /dev/ram0 && swapon /dev/ram0; } >/dev/null"""
ACTS = {
    "swap": (RECLAIM, "echo 8M >/sys/fs/cgroup/guest/memory.reclaim 2>/dev/null",
             "grep -w pswpout /proc/vmstat"),
    "same-pages": ("cd /sys/kernel/mm/ksm; echo 5000 >pages_to_scan; echo 10 >sleep_millisecs; "
                   "echo 1 >run", "", "cat /sys/kernel/mm/ksm/pages_sharing"),
    "compaction": ("", "echo 1 >/proc/sys/vm/compact_memory && echo >>/run/turns",
                   "wc -l </run/turns"),
    "huge-pages": ("cd /sys/kernel/mm/transparent_hugepage; echo always >enabled; "
                   "echo 10 >khugepaged/scan_sleep_millisecs; "
                   "echo 20000 >khugepaged/pages_to_scan", "",
                   "cat /sys/kernel/mm/transparent_hugepage/khugepaged/full_scans"),
    "balloon": ("", "hmp balloon 900 >/dev/null; sleep 0.2; "
                "hmp info balloon | grep -qv 1280 && echo >>/run/turns; "
                "hmp balloon 1280 >/dev/null", "wc -l </run/turns"),
    "dirty-rate": ("", "hmp calc_dirty_rate -b 1 >/dev/null",
                   "hmp info dirty_rate | grep -c bitmap"),
    # to nowhere: when it is through, this guest goes on.
    # Before QEMU says "postmigrate" it must not.
    "migration": ("hmp migrate_set_parameter max-bandwidth 100G; "
                  "hmp migrate_set_parameter downtime-limit 2000",
                  "hmp migrate -d exec:cat\\>/dev/null >/dev/null; "
                  "until hmp info status | grep -q postmigrate; do sleep 0.1; done; "
                  "echo >>/run/turns; hmp cont", "wc -l </run/turns"),
}


@pytest.fixture(scope="module")
def kvm(machines):
    m = machines("kvm")
    m.good("/usr/lib/ooh/reload; test -e /dev/ooh")
    return m


@pytest.fixture(scope="module")
def devices(kvm):
    """The guest's drivers for them, and what they give: a disk, files, and two networks where the
    host sends."""
    kvm.good(f"cd {MODULES}; for m in virtio_blk failover net_failover virtio_net virtio_balloon "
             "netfs 9pnet 9pnet_virtio 9p; do "
             "grep -q \"^$m \" /proc/modules || insmod $m.ko; done; mkdir -p /mnt/share; "
             "mount -t 9p -o trans=virtio,version=9p2000.L,cache=none share /mnt/share; "
             "for i in 0 1; do ip addr add 10.0.$i.2/24 dev eth$i; ip link set eth$i up; done; "
             "head -c 4194304 /dev/urandom >/dev/vda")
    r = kvm.host("for i in 0 1; do ip addr add 10.0.$i.1/24 dev tap$i; ip link set tap$i up; "
                 "setsid sh -c \"while :; do nc -l -p 500$i </dev/urandom; done\" "
                 "</dev/null >/dev/null 2>&1 & done; "
                 "head -c 4194304 /dev/urandom >/run/share/file")
    assert r.returncode == 0, r.stderr
    yield kvm
    kvm.down()


@pytest.mark.parametrize("source",
                         ["/dev/vda", "/mnt/share/file", "10.0.0.1:5000", "10.0.1.1:5001"],
                         ids=["disk", "9p", "vhost", "network"])
def test_what_a_device_writes(devices, source):
    r = devices.exec("env", "OOH_TESTED=spml", f"{TESTS}/read_by_device", source)
    print(r.stdout, r.stderr)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("act", ACTS)
def test_what_the_host_does_meanwhile(devices, act):
    """Nothing is missed; and it has taken place."""
    before, again, count = ACTS[act]
    if act == "migration":
        # which QEMU does not do for a guest that has it mounted
        devices.good("umount /mnt/share")
    script = (f"rm -f /run/turns /run/over; {before}\n"
              f"(until [ -e /run/over ]; do {again or ':'}\nsleep 0.2; done) & "
              f"cat >/dev/null; touch /run/over; wait; {count}")
    with devices.dom0_meanwhile(script, verb="host") as done:
        for way in ("store", "map"):
            doc = verify(devices, "-b", "spml", "-n", "6", "-i", "50",
                         "--", f"{TESTS}/changers", way)
            assert doc["total"]["missed"] == 0 < doc["total"]["changed"], way
            assert not any(r["all_dirty"] for r in doc["rounds"]), way
    assert int(done[0].split()[-1]) > 0, done


def test_memory_is_plugged(devices):
    script = ("sleep 1; hmp object_add memory-backend-ram,id=m1,size=128M; "
              "hmp device_add pc-dimm,id=d1,memdev=m1; cat >/dev/null")
    with devices.dom0_meanwhile(script, verb="host"):
        # the distribution's kernel takes it for what can be unplugged again
        r = devices.sh("echo online_movable >/sys/devices/system/memory/auto_online_blocks; "
                       f"OOH_TESTED=spml {TESTS}/plugged", timeout=300)
    print(r.stdout, r.stderr)
    assert r.returncode == 0, r.stdout


def test_moved_to_another_qemu(kvm):
    """A guest that is tracked is migrated to another QEMU, whose device knows nothing of it: there
    everything is reported once, with the reason, and then as before. And the other one has all of
    its memory, though the guest has taken bits out of KVM's log meanwhile."""
    kvm.down()
    kvm.up()
    kvm.good(f"setsid ooh verify --json -b spml -n 1000000 -i 50 -- {TESTS}/changers store "
             "</dev/null >/tmp/doc 2>/tmp/errors & "
             "for i in $(seq 50); do pgrep -x changers >/dev/null && break; sleep 0.1; done; "
             "sleep 1")
    same = f"./samemem $(pidof qemu-system-x86_64) {GUEST_MIB}"
    r = kvm.host(f"""sed 's/:4444/:4445/; s/=tap0/=tap2/; s/=tap1/=tap3/' /guest/start >/run/start
        setsid sh /run/start -S -incoming unix:/run/move </dev/null >/run/other 2>&1 &
        other() {{ HMP_PORT=4445 hmp "$@"; }}
        for i in $(seq 100); do
            other info status 2>/dev/null | grep -q inmigrate && break
            sleep 0.1
        done
        hmp migrate_set_parameter max-bandwidth 100G
        {same} | sed 's/^/before: /'
        hmp migrate -d unix:/run/move
        for i in $(seq 300); do hmp info status | grep -q postmigrate && break; sleep 0.1; done
        {same} | sed 's/^/after: /'
        other cont; other info status; cat /run/other >&2""", into=[SAMEMEM])
    print(r.stdout, r.stderr)
    assert "VM status: running" in r.stdout
    before, after = map(int, re.findall(r": (\d+) of \d+ differ", r.stdout))
    # but for the wall clock, 12 bytes, which KVM writes when it is told where that is
    sizes = [int(b) - int(a) + 1
             for a, b in re.findall(r"after: offset \w+: bytes (\d+) to (\d+)", r.stdout)]
    assert before > 10_000 and len(sizes) == after <= 1 and all(size <= 12 for size in sizes)
    kvm.good("sleep 1; pkill -x changers; while pgrep -x ooh >/dev/null; do sleep 0.1; done")
    doc = json.loads(kvm.good("cat /tmp/doc"))
    kvm.down()
    assert doc["total"]["missed"] == 0 < doc["total"]["changed"]
    lost = [i for i, r in enumerate(doc["rounds"]) if r["all_dirty"]]
    assert len(lost) == 1
    assert doc["rounds"][lost[0]]["reason"] == "the guest was restored or migrated"
    assert 1 < lost[0] < len(doc["rounds"]) - 2


@pytest.fixture(scope="module")
def two(machines):
    """Two vCPUs, each on a processor; the memory is shared with the back end of virtiofs."""
    m = machines("kvm2")
    m.good("/usr/lib/ooh/reload; test -e /dev/ooh")
    assert int(m.good("nproc")) == 2
    yield m
    m.down()


@LONG
@pytest.mark.parametrize("way", ["threads", "sibling", "map", "fork"])
def test_two_vcpus(two, way):
    """Each leaves the guest when the other one ends a round."""
    few_extra(nothing_missed(two, "spml", way))


@LONG
def test_vcpus_come_and_go(two):
    """What an offline vCPU wrote is reported, and one that comes back logs again."""
    r = two.sh(f"""(for i in $(seq 3); do for on in 0 1; do
            sleep 0.1; echo $on >/sys/devices/system/cpu/cpu1/online
        done; done) &
        ooh verify --json -b spml -n 8 -i 50 -- {TESTS}/changers threads; s=$?; wait; exit $s""")
    assert r.returncode == 0, r.stderr
    total = json.loads(r.stdout)["total"]
    assert total["missed"] == 0 < total["changed"] and total["all_dirty"] == 0


@LONG
def test_virtiofs(two):
    """The back end is a process that QEMU does not know of; it has a log of its own for QEMU."""
    assert two.host("head -c 4194304 /dev/urandom >/run/share/file").returncode == 0
    two.good("mkdir -p /mnt/share; mount -t virtiofs share /mnt/share")
    r = two.exec("env", "OOH_TESTED=spml", f"{TESTS}/read_by_device", "/mnt/share/file")
    print(r.stdout, r.stderr)
    assert r.returncode == 0, r.stdout
