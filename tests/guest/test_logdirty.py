# SPDX-License-Identifier: GPL-2.0-only
"""The log's consumers in the host: log-dirty mode and VRAM tracking, alone, at the
same time, and beside a tracker in the guest. None takes a write from another.
Defects of Xen that we mend are shown on the Xen without our patches, too."""

import re

import judge
import pytest
from conftest import LOGS, long
from guest.domain import DOM0

TOOL = DOM0 / "logdirty"
TESTS = "/usr/lib/ooh/tests"


class Frame:
    """A frame in the guest that is written when asked for, seen from dom0."""

    def __init__(self, m, pages=16):
        self.m = m
        self.domid = m.dom0("xl domid guest").stdout.strip()
        assert m.dom0("mkdir -p /tmp/tools; cp logdirty /tmp/tools/", into=[TOOL]).returncode == 0
        self.pfn = m.onepage()
        self.first, self.nr = self.pfn - self.pfn % pages, pages

    def write(self):
        self.m.good("pkill -USR1 onepage && sleep 0.2")

    def tool(self, *args):
        r = self.m.dom0(f"/tmp/tools/logdirty {self.domid} {' '.join(map(str, args))}")
        if r.returncode:
            raise RuntimeError(r.stderr)
        return set(map(int, r.stdout.split()))

    def vram(self):
        return self.pfn in self.tool("vram", self.first, self.nr)

    def clean(self):
        return self.pfn in self.tool("clean")

    def settled(self, look):
        """Until the frame is clean for this consumer: earlier writes have been reported."""
        look()
        assert not look()

    def stop(self):
        self.tool("vram", 0, 0)
        self.tool("off")
        self.m.good("pkill onepage")


@pytest.fixture
def frame(machines):
    made = []

    def make(config, **kw):
        m = machines(config)
        if config == "plainxen":
            # what a defect left behind would change the next result
            m.down()
            m.up()
        made.append(Frame(m, **kw))
        return made[-1]

    yield make
    for f in made:
        f.stop()


@pytest.mark.parametrize("config", ["default", "nospml"])
def test_log_dirty_and_vram_each_see_a_write(frame, config):
    f = frame(config)
    f.vram()
    f.settled(f.vram)
    f.write()
    assert f.vram()
    assert not f.vram()
    f.tool("on")
    f.settled(f.clean)
    f.settled(f.vram)
    f.write()
    assert f.clean()
    f.write()
    assert f.vram()
    # one has asked, the other still hears of the same write
    assert f.clean()


@pytest.mark.parametrize("config, mended", [("default", True), ("nospml", True),
                                            ("plainxen", False)])
def test_vram_tracking_goes_on_after_log_dirty(frame, config, mended):
    """Xen turned PML off at the end of log-dirty mode although VRAM was still tracked by it."""
    f = frame(config)
    f.vram()
    f.write()
    f.settled(f.vram)
    f.tool("on")
    f.tool("off")
    f.settled(f.vram)
    f.write()
    assert f.vram() == mended


@pytest.mark.parametrize("config, mended", [("nospml", True), ("plainxen", False)])
def test_pml_ends_with_vram_tracking(frame, config, mended):
    """Xen turned PML on for VRAM tracking, and never off again. (With SPML it is always on.)"""
    f = frame(config)

    def pml():
        # bit 17 of the secondary controls, by Xen's dump of the domain's VMCS
        r = f.m.dom0("xl dmesg -c >/dev/null; xl debug-keys v; "
                     f"xl dmesg | sed -n '/>>> Domain {f.domid} /,/>>> Domain [^{f.domid}]/p'")
        return int(re.search(r"SecondaryExec=([0-9a-f]+)", r.stdout)[1], 16) >> 17 & 1

    assert not pml()
    f.vram()
    assert pml()
    f.tool("on")
    f.tool("vram", 0, 0)
    # log-dirty mode still needs it
    assert pml()
    f.write()
    assert f.clean()
    f.tool("off")
    assert not pml()
    f.vram()
    assert pml()
    f.tool("vram", 0, 0)
    assert pml() != mended


@pytest.mark.parametrize("config, mended", [("default", True), ("nospml", True),
                                            ("plainxen", False)])
def test_a_range_of_one_page(frame, config, mended):
    """Xen passed over a range of one frame: it did not become log-dirty, and so counted as
    written before anybody wrote to it."""
    f = frame(config, pages=1)
    # with SPML the log runs all the time: what the buffers hold from before counts as
    # written when they are next read, so have them read for another range first
    for _ in range(2):
        f.tool("vram", f.first + 64, 16)
    f.vram()
    assert f.vram() != mended
    f.settled(f.vram)
    f.write()
    assert f.vram()


@pytest.mark.parametrize("config, kept", [("nospml", True), ("plainxen", False)])
def test_access_permissions_are_kept(frame, config, kept):
    """Xen gave a frame its default permissions back when it was found in a PML buffer."""
    f = frame(config)
    f.m.good("setsid sh -c 'for i in $(seq 400); do pkill -USR1 onepage; sleep 0.05; "
             "done' </dev/null >/dev/null 2>&1 & sleep 0.5")
    r = f.m.dom0(f"/tmp/tools/logdirty {f.domid} access {f.pfn}")
    assert r.returncode == 0, r.stderr
    assert r.stdout.strip() == ("kept" if kept else "lost")


@pytest.mark.parametrize("mode", [long("vram"), long("log-dirty"), "both"])
@pytest.mark.parametrize("log", LOGS)
def test_a_tracker_misses_nothing_beside_the_host(frame, vm, log, mode):
    """The host turns its modes on and off and clears bits while ooh verify judges a guest's
    process."""
    f = frame("default")
    script = {"vram": "L vram {0} 16; sleep 0.1; L vram {0} 16; sleep 0.1; L vram 0 0",
              "log-dirty": "L on; for j in 1 2 3; do L clean; sleep 0.1; done; L off",
              "both": "L vram {0} 16; L on; L clean; sleep 0.1; L vram {0} 16; L clean; L off; "
                      "sleep 0.1; L vram 0 0"}
    body = script[mode].format(f.first)
    with vm.dom0_meanwhile(
            f"L() {{ /tmp/tools/logdirty {f.domid} $* >/dev/null; }}; rm -f /tmp/stop; exec 3<&0; "
            "n=0; "
            "(cat <&3 >/dev/null; touch /tmp/stop) & "
            f"while [ ! -e /tmp/stop ]; do {body}; n=$((n + 1)); done; echo $n") as times:
        for way in ("threads", "map"):
            doc = judge.sound(vm.exec("ooh", "verify", "--json", "-b", log, "-n", "20", "-i", "50",
                                      "--", f"{TESTS}/changers", way, timeout=600))
            assert not any(r["all_dirty"] for r in doc["rounds"])
    assert int(times[0]) > 4
