# SPDX-License-Identifier: GPL-2.0-only
"""Defects of Xen beside its log-dirty mode that our series mends, each on the Xen without
our patches, where it shows, and on ours, where it does not. (Others: test_logdirty.py) The
first of these never changes: make check-long has it.

The guest hangs or is crashed here: nothing waits without a limit, and each test ends its
machine. One that crashes counts as dead for testbed/vm, but its log can still be read."""

import json
import os
import time
from pathlib import Path

import pytest
from conftest import long
from guest.domain import DOM0
from testbed.session import MACHINE_FAILED, TIMED_OUT

BUILD = Path(os.environ.get("OOH_BUILD", "build"))
TESTS = "/usr/lib/ooh/tests"
PARAMETERS = "/sys/module/nested/parameters"
BOTH = pytest.mark.parametrize("config, mended", [("nospml", True), long("plainxen", False)])

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture
def machine(machines):
    """A machine as restored, with dom0's programs; gone after the test."""
    made = []

    def make(config, setting=None):
        m = machines(config)
        made.append(m)
        m.down()
        dom0(m, "mkdir -p /tmp/tools; cp paging logdirty /tmp/tools/",
             into=[DOM0 / "paging", DOM0 / "logdirty"])
        if setting:
            # the guest once more, with that in its configuration
            dom0(m, "xl destroy guest; for i in $(seq 60); do xl domid guest >/dev/null 2>&1 || "
                    "break; sleep 1; done; "
                    f"(cat /guest/xl.cfg; echo '{setting}') >/tmp/xl.cfg; xl create /tmp/xl.cfg")
            # some of it is there already, under names that are links
            m.good("cp -a usr / 2>/dev/null; [ -e /usr/lib/ooh/tests/altp2m_pages ]",
                   into=[BUILD / "guest" / "usr"])
        return m

    yield make
    for m in made:
        m.down()


def dom0(m, script, **kw):
    r = m.dom0("L() { /tmp/tools/logdirty $(xl domid guest) $*; }; "
               "P() { /tmp/tools/paging $(xl domid guest) $*; }; "
               + script, timeout=kw.pop("timeout", 60), **kw)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


def frames(text):
    return list(map(int, text.split()))


@BOTH
def test_no_memory_to_split_a_superpage(machine, config, mended):
    """A write to a superpage in log-dirty mode, and nothing left in the domain's paging pool to
    split it: Xen had the guest fault again and again. Now all of the superpage counts as dirty."""
    m = machine(config)
    pfn = m.onepage()
    write = ("pkill -USR1 onepage && dd if=/dev/zero of=/dev/shm/x bs=1M count=64 2>/dev/null && "
             "rm /dev/shm/x && echo written")
    # The first execution in a superpage splits it, too (CVE-2018-12207), and without memory Xen
    # crashes the domain, as it says: have all that behind us.
    for _ in range(3):
        m.good(write)
    pool = int(dom0(m, "P starve"))
    assert pool > 1 << 20
    r = m.sh(write, timeout=20)
    if not mended:
        assert r.returncode == TIMED_OUT, r.stdout + r.stderr
        # not idle: it runs, and gets nowhere
        spent = [float(dom0(m, "sleep 5; xl vcpu-list guest").splitlines()[-1].split()[5])
                 for _ in range(2)]
        print("seconds of processor time:", spent)
        assert spent[1] - spent[0] > 2
        return
    assert r.returncode == 0 and r.stdout == "written\n", r.stderr
    dirty = set(frames(dom0(m, "L clean")))
    print(len(dirty), "frames dirty")
    assert pfn in dirty
    # superpages as a whole, and not all of them
    assert any(all(s + i in dirty for i in range(512)) for s in range(0, 1 << 20, 512))
    assert 64 * 256 <= len(dirty) < 250000
    # cleaned, the superpages are log-dirty again
    assert len(frames(dom0(m, "L clean"))) < len(dirty) / 2
    m.good("pkill -USR1 onepage && sleep 0.2")
    assert pfn in frames(dom0(m, "L clean"))
    dom0(m, f"P pool {pool}; L off")
    m.good(write)


def test_vram_without_memory_to_split_it(machine):
    """VRAM tracked in a superpage, and no memory to split it: what cannot be followed counts as
    written, each time. Without log-dirty mode there is no bitmap that says so. (Xen without our
    patches hangs, as above.)"""
    m = machine("nospml")
    pfn = m.onepage()
    write = "pkill -USR1 onepage && sleep 0.2 && echo written"
    look = f"L vram {pfn & ~511} 512"
    # see above
    for _ in range(3):
        m.good(write)
    pool = int(dom0(m, "P drain"))
    dom0(m, f"{look} >/dev/null")
    assert pfn not in frames(dom0(m, look))
    r = m.sh(write, timeout=20)
    assert r.returncode == 0 and r.stdout == "written\n", r.stderr
    # one write, but nothing follows the superpage any more
    for _ in range(3):
        assert len(frames(dom0(m, look))) == 512
    # with memory again it is followed as before
    dom0(m, f"P pool {pool}; {look} >/dev/null")
    assert pfn not in frames(dom0(m, look))
    m.good(write)
    dirty = frames(dom0(m, look))
    assert pfn in dirty and len(dirty) < 512
    assert pfn not in frames(dom0(m, look))
    dom0(m, "L vram 0 0")


@pytest.mark.parametrize("config, mended", [("novpid", True), long("plainnovpid", False)])
def test_flushes_without_vpids(machine, config, mended):
    """Where VPIDs are not in use, Xen left out what VM entries have to flush after a change
    of the EPT, too. The emulator empties its TLB at each of them, so the flushes are
    counted here, not missed."""
    m = machine(config)
    m.onepage()
    doc = json.loads(dom0(m, "D=$(xl domid guest); L=/tmp/tools/logdirty; emustat -j -- sh -c "
                             "\"for i in 1 2 3; do $L $D on; $L $D clean; sleep 0.1; $L $D off; "
                             "done >/dev/null\""))
    print(doc["invept"], "INVEPT")
    assert (doc["invept"] > 0) == mended


def test_log_dirty_and_undefined_bits_of_a_full_log(machine):
    """A VM exit for a full log says in one bit of its qualification what the manual defines. This
    processor sets all the others, and the guest does not use EPML, which has its own bit there."""
    m = machine("pmlbits")
    fill = ("for i in 1 2; do dd if=/dev/zero of=/dev/shm/x bs=1M count=64 conv=notrunc "
            "2>/dev/null; done; echo written")
    m.good(fill)
    dom0(m, "L on; L clean >/dev/null")
    # the first writes split the superpages, the next are logged
    assert m.sh(fill, timeout=120).stdout == "written\n"
    dom0(m, "L clean >/dev/null")
    before = json.loads(dom0(m, "emustat -j")).get("exit_62", 0)
    assert m.sh(fill, timeout=120).stdout == "written\n"
    full = json.loads(dom0(m, "emustat -j"))["exit_62"] - before
    dirty = frames(dom0(m, "L clean"))
    print(full, "exits for a full log,", len(dirty), "frames dirty")
    assert full >= 16 and 64 * 256 <= len(dirty) < 64 * 256 * 2
    dom0(m, "L off")
    m.good("rm /dev/shm/x")


def pages(m):
    """Starts the program that shows and writes pages; their frames."""
    m.good(f"setsid {TESTS}/altp2m_pages </dev/null >/tmp/pages 2>&1 & sleep 1")
    return frames(m.good("cat /tmp/pages"))


def survives_log_dirty_mode(m, mended, script, expected):
    """Whether the guest goes on, as the script in it prints what it did before; on the Xen without
    our patches it has to crash."""
    r = m.dom0("/tmp/tools/logdirty $(xl domid guest) on; sleep 1", timeout=60)
    if r.returncode == 0:
        r = m.sh(script, timeout=30)
    if not mended:
        assert r.returncode == MACHINE_FAILED and "domain_crash" in r.stderr, r.stdout + r.stderr
        return False
    assert r.returncode == 0 and r.stdout == expected, r.stdout + r.stderr
    return True


@pytest.mark.provokes(r"domain_crash called|Domain \d+ \(vcpu#0\) crashed")
@BOTH
def test_log_dirty_with_a_vcpu_in_an_alternate_view(machine, config, mended):
    """Log-dirty mode took vCPUs out of their view without noticing, and then failed to handle
    their faults."""
    m = machine(config, 'altp2m="external"')
    shown, hidden, _ = pages(m)
    look = "pkill -USR1 altp2m_pages; sleep 0.2; tail -n 1 /tmp/pages"
    assert m.good(look) == "a\n"
    dom0(m, f"P switch $(P view {shown} {hidden})")
    assert m.good(look) == "b\n"
    if not survives_log_dirty_mode(m, mended, look, "b\n"):
        return
    dom0(m, "L off")
    assert m.good(look) == "b\n"
    dom0(m, "P views-off")
    assert m.good(look) == "a\n"


@pytest.mark.provokes(r"domain_crash called|Domain \d+ \(vcpu#0\) crashed")
@BOTH
def test_log_dirty_and_vmfunc(machine, config, mended):
    """A guest that switches to a view by itself used the view's EPT pointer of before, by which
    the processor logs nothing. (Xen without our patches crashes it before, as above.)"""
    m = machine(config, 'altp2m="mixed"')
    _, written, info = pages(m)
    # A view like the normal one. The guest has to have been there: without the upper levels of its
    # page tables it gets #VE, which Linux takes for a matter of TDX.
    assert int(dom0(m, f"P view {written} {written}")) == 1
    dom0(m, "P switch 1")
    assert m.good("pkill -USR1 altp2m_pages; sleep 0.2; tail -n 1 /tmp/pages") == "a\n"
    dom0(m, f"P switch 0; P vmfunc {info}")
    write = "pkill -USR2 altp2m_pages; sleep 0.2; tail -n 1 /tmp/pages"
    assert m.good(write) == "written\n"
    # the first write is a fault, as the frame is in a superpage; it counts in any case
    if not survives_log_dirty_mode(m, mended, write, "written\n"):
        return
    dom0(m, "L clean >/dev/null; L clean >/dev/null")
    assert written not in frames(dom0(m, "L clean"))
    for _ in range(2):
        assert m.good(write) == "written\n"
        assert written in frames(dom0(m, "L clean"))
    assert written not in frames(dom0(m, "L clean"))
    dom0(m, "L off")
    assert m.good(write) == "written\n"
    dom0(m, "P views-off")


@pytest.mark.provokes(r"domain_crash called|Domain \d+ \(vcpu#0\) crashed")
@BOTH
def test_log_dirty_and_a_guest_of_the_guest(machine, config, mended):
    """PML was on for it, without a buffer: what it wrote to was logged to machine address 0, until
    an exit that Xen did not expect."""
    m = machine(config, "nestedhvm=1")
    m.good(f"insmod {TESTS}/nested.ko; echo 2 >{PARAMETERS}/run")
    frame = int(m.good(f"cat {PARAMETERS}/frame"))
    assert int(m.good(f"cat {PARAMETERS}/sum")) == 2
    dom0(m, "L on; L clean >/dev/null")
    before = dom0(m, "P low | head -n 1").strip()
    # for later, when testbed/vm gives up
    m.dom0("setsid sh -c 'while [ ! -e /tmp/stop ]; do sleep 2; echo \"first word of memory: "
           "$(/tmp/tools/paging 0 low | head -n 1)\" >/dev/kmsg; done' "
           "</dev/null >/dev/null 2>&1 &")
    r = m.sh(f"echo 4 >{PARAMETERS}/run", timeout=30)
    if not mended:
        assert r.returncode == MACHINE_FAILED, r.stdout + r.stderr
        for _ in range(30):
            time.sleep(1)
            log = m.run("log").stdout
            crashed, _, after = log.partition("Unhandled nested vmexit: reason 62")
            if "first word of memory: " in after:
                break
        assert crashed != log
        word = after.split("first word of memory: ")[-1].split()[0]
        print(f"machine address 0: {before}, then {word}")
        assert word != before
        return
    assert r.returncode == 0, r.stderr
    dirty = frames(dom0(m, "L clean"))
    assert int(m.good(f"cat {PARAMETERS}/sum")) == 6
    assert [f in dirty for f in range(frame, frame + 5)] == [True] * 4 + [False]
    assert dom0(m, "P low | head -n 1").strip() == before
    # L1 and L2 in turn, for as many as the log would hold
    m.good(f"for i in $(seq 200); do echo 16 >{PARAMETERS}/run || exit 1; done", timeout=60)
    dirty = frames(dom0(m, "L clean"))
    assert all(f in dirty for f in range(frame, frame + 16))
    assert dom0(m, "P low | head -n 1").strip() == before
    dom0(m, "touch /tmp/stop; L off")
