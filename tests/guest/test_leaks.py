# SPDX-License-Identifier: GPL-2.0-only
"""A domain that dies while it is tracked leaves no memory behind in Xen, and a kernel that goes
down leaves none to which Xen or the processor goes on writing."""

import os
import time
from pathlib import Path

import pytest
from conftest import LOGS
from guest.domain import destroyed, free_pages

CHANGERS = "usr/lib/ooh/tests/changers"


def test_memory_of_a_destroyed_domain(vm):
    """Destroyed with two trackers, logs and armed frames; several times, as a leak adds up."""
    seen = []
    try:
        destroyed(vm)
        for log in ("epml", "spml", "epml"):
            seen.append(free_pages(vm))
            assert vm.dom0("xl create /guest/xl.cfg").returncode == 0
            # the new guest has nothing yet
            r = vm.sh("cp -a usr / && insmod usr/lib/ooh/ooh.ko && for w in map huge; "
                      f"do {CHANGERS} $w >/dev/null & "
                      f"ooh record -b {log} -i 20 -p $! >/dev/null & done; sleep 1; "
                      "cat /sys/module/ooh/refcnt",
                      into=[Path(os.environ["OOH_BUILD"]) / "guest/usr"])
            assert r.returncode == 0 and int(r.stdout) >= 2, r.stdout + r.stderr
            destroyed(vm)
        seen.append(free_pages(vm))
    finally:
        vm.down()
    print("free pages:", seen)
    assert seen[0] > 10000
    # with the first domain after boot Xen's own pools grow
    assert abs(seen[-1] - seen[1]) <= 8, seen


MISUSE = f"""
i=0; while [ $i -lt {{times}} ]; do i=$((i + 1))
    {CHANGERS} map >/dev/null & p=$!
    ooh record -b epml -i 20 -p $p >/dev/null & o=$!
    sleep 0.3; kill -9 $o; wait $o                                         # the tracker dies
    (sleep 0.3; kill -9 $p) & ooh verify -b spml -n 1000 -i 20 -p $p >/dev/null   # the process dies
    ooh verify -b spml -n 1 -p 4000000; ooh verify -b nonsense -n 1 -p 1   # never had one
    rmmod ooh; insmod usr/lib/ooh/ooh.ko epml_vmfunc=many; insmod usr/lib/ooh/ooh.ko
done 2>/dev/null
sleep 1; sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; rmmod ooh
pgrep -c 'ooh$'; awk '/MemFree|SUnreclaim|VmallocUsed/ {{{{ print $2 }}}}' /proc/meminfo
insmod usr/lib/ooh/ooh.ko
"""


def test_memory_after_misuse(module):
    """After trackers and processes that died, and refused parameters, guest and Xen have their
    memory back."""
    vm = module()
    software = [Path(os.environ["OOH_BUILD"]) / "guest/usr"]

    def misuse(times):
        left, *memory = map(int, vm.sh(MISUSE.format(times=times), into=software,
                                       timeout=600).stdout.split())
        assert left == 0, "a tracker is left"
        return memory

    misuse(2)
    xen, before = free_pages(vm), misuse(2)
    times = 20
    after = misuse(times)
    print(f"KiB free, slab, vmalloc in the guest: {before}, {after}; "
          f"pages in Xen: {xen}, {free_pages(vm)}")
    # the guest's own coming and going is about 4 MiB
    assert before[0] - after[0] < times * 1024
    # what a tracker allocates is far more than 16 KiB
    assert sum(after[1:]) - sum(before[1:]) < times * 16
    assert abs(free_pages(vm) - xen) <= 8


@pytest.mark.parametrize("log", LOGS)
def test_the_kernel_goes_down(vm, log):
    """For a reboot, and for another kernel (kexec), which would own the memory of status and
    logs."""
    vm.down()
    vm.up()
    try:
        vm.good("rmmod ooh; insmod /usr/lib/ooh/ooh.ko")
        vm.sh(f"ooh record -b {log} -i 20 -- /{CHANGERS} store >/dev/null 2>&1 & "
              "sleep 1; cat /sys/module/ooh/refcnt; busybox reboot -f", timeout=30)
        for _ in range(60):
            text = vm.log()
            if "ooh: the kernel goes down" in text:
                break
            time.sleep(1)
        assert "ooh: the kernel goes down" in text
        assert "did not give back" not in text and "did not stop" not in text
    finally:
        vm.down()
