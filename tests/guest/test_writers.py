# SPDX-License-Identifier: GPL-2.0-only
"""Who else writes to a frame that is followed, without the processor logging it: Xen into areas that
the guest registered, another domain through a mapping, a device model while the frame is of another type.
The frame is reported in each round in which there is such a writer, whichever came first, the writer or
the tracker; and not when there is none. (Grants at random: tests/fuzz)"""

import contextlib
import os
from pathlib import Path

import pytest

DOM0 = Path(os.environ["OOH_BUILD"]) / "dom0"
MODULE = "/usr/lib/ooh/tests/watch.ko"
PARAMETERS = "/sys/module/watch/parameters"


class Watch:
    """The frame of tests/guest/watch, armed."""

    def __init__(self, m):
        self.m = m
        self.domid = m.dom0("xl domid guest").stdout.strip()
        self.dom0("mkdir -p /tmp/tools; cp mapped logdirty /tmp/tools/", into=[DOM0 / "mapped", DOM0 / "logdirty"])
        m.good(f"rmmod ooh 2>/dev/null; insmod {MODULE}")
        self.frame = int(m.good(f"cat {PARAMETERS}/frame"))
        # nobody writes to it: without that the rest says nothing
        self.round()
        assert self.rounds(2) == [0, 0]

    def dom0(self, script, **kw):
        r = self.m.dom0(script, timeout=120, **kw)
        assert r.returncode == 0, r.stdout + r.stderr
        return r.stdout

    def round(self):
        return int(self.m.good(f"sleep 0.1; cat {PARAMETERS}/round"))

    def rounds(self, n):
        return [self.round() for _ in range(n)]

    def store(self, n):
        self.m.good(f"echo {n} >{PARAMETERS}/store")

    def area(self, name):
        self.m.good(f"echo {name} >{PARAMETERS}/area")

    def type(self, how):
        self.dom0(f"/tmp/tools/mapped {self.domid} type {self.frame} {how}")

    @contextlib.contextmanager
    def mapped(self, how):
        """A mapping in dom0; yields a function that has dom0 write, and returns what is there then."""
        # a sleeper holds the input open; its end ends the mapping
        self.dom0(f"cd /tmp; rm -f in out; mkfifo in; setsid sh -c 'sleep 600 >in & echo $! >sleeper; "
                  f"exec tools/mapped {self.domid} {self.frame} {how} <in >out 2>&1' </dev/null >/dev/null 2>&1 & "
                  "for i in $(seq 50); do grep -q mapped /tmp/out 2>/dev/null && exit 0; sleep 0.1; done; cat /tmp/out >&2; exit 1")

        def write(n):
            return int(self.dom0(f"cd /tmp; echo {n} >in; sleep 0.2; tail -n 1 out"))

        try:
            yield write
        finally:
            self.dom0("kill $(cat /tmp/sleeper); sleep 0.3")

    def settles(self):
        """Without a writer: what is left from before is reported once, then nothing."""
        self.rounds(2)
        assert self.rounds(2) == [0, 0]
        self.store(7)
        assert self.rounds(2) == [1, 0]

    def end(self):
        # a failed test may have left it otherwise, and the guest's kernel takes it back
        self.type("rw")
        self.m.good("rmmod watch; insmod /usr/lib/ooh/ooh.ko")


@pytest.fixture
def watch(request, machines):
    made = []

    def make(config):
        made.append(Watch(machines(config)))
        return made[-1]

    yield make
    for w in made:
        w.end()


@pytest.mark.parametrize("area", ["runstate", "time"])
def test_an_area_registered_after_arming(watch, area):
    """Xen writes there for as long as it is registered: a mark when it is mapped, and at each round's end."""
    w = watch("default")
    w.area(area)
    assert w.rounds(4) == [1, 1, 1, 1]
    w.area("none")
    w.settles()


def test_a_foreign_mapping(watch):
    w = watch("default")
    with w.mapped("rw") as write:
        assert w.rounds(2) == [1, 1]
        for n in (5, 6):
            assert write(n) == n
            assert w.round() == 1
    w.settles()


def test_a_mapping_for_reading_is_no_writer(watch):
    w = watch("default")
    with w.mapped("ro") as read:
        w.store(9)
        assert w.rounds(3) == [1, 0, 0]
        assert read(1) == 0
        assert w.rounds(2) == [0, 0]
    w.settles()


def test_a_frame_that_is_no_ram_for_a_while(watch):
    """A device model takes the right to write away, writes itself, and gives it back: the frame counts as
    written in all of these rounds, and is followed as before afterwards."""
    w = watch("default")
    with w.mapped("rw") as write:
        assert w.round() == 1
        w.type("ro")
        assert w.rounds(3) == [1, 1, 1]
        assert write(3) == 3
        assert w.round() == 1
        w.type("rw")
        assert w.rounds(2) == [1, 1]
    w.settles()
    w.type("ro")
    assert w.rounds(3) == [1, 1, 1]
    w.type("rw")
    w.settles()


def test_a_grant_that_the_guest_maps_itself(watch):
    """Xen takes the page away from the frame it was at: the frame counts as written then, and when it has a
    page again. What the kernel finds there meanwhile is nothing, hence its oops sooner or later."""
    w = watch("default")
    own_grant(w.m, lambda expected: w.rounds(3) == [expected, 0, 0])
    w.settles()


def test_a_grant_that_the_guest_maps_itself_without_the_series(machines):
    """It is nothing that tracking does: the frame is as empty on the Xen without our patches."""
    m = machines("plainxen")
    m.good(f"rmmod ooh 2>/dev/null; insmod {MODULE} follow=0")
    try:
        own_grant(m, lambda expected: True)
    finally:
        m.good("rmmod watch")


def own_grant(m, reported):
    def say(text):
        m.good(f"echo {text} >{PARAMETERS}/own")

    def at(name):
        return int(m.good(f"cat {PARAMETERS}/{name}"))

    m.good(f"echo 5 >{PARAMETERS}/store")
    assert reported(1)
    assert at("store") == 5
    say("map")
    assert reported(1)
    assert at("own") == 5 and at("store") == -1
    say("unmap")
    assert reported(0)
    assert at("store") == -1
    say("mend")
    assert reported(1)
    assert at("store") == 0
