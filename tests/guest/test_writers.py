# SPDX-License-Identifier: GPL-2.0-only
"""Who else writes to a frame that is followed, without the processor logging it: Xen into areas
that the guest registered, another domain through a mapping, a device model while the frame is of
another type. The frame is reported in each round in which there is such a writer, whichever came
first, the writer or the tracker; and not when there is none. (Grants at random: tests/fuzz)"""

import pytest
from guest.watched import MODULE, PARAMETERS, Watch


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
    """Xen writes there for as long as it is registered: a mark when it is mapped,
    and at each round's end."""
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
    """A device model takes the right to write away, writes itself, and gives it back: the frame
    counts as written in all of these rounds, and is followed as before afterwards."""
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
    """Xen takes the page away from the frame it was at: the frame counts as written then,
    and when it has a page again. What the kernel finds there meanwhile is nothing, hence
    its oops sooner or later."""
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
