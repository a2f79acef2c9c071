# SPDX-License-Identifier: GPL-2.0-only
"""The log serves the host and the guest at once: a guest is migrated live (within the
machine), or saved and restored, while a process in it writes and is tracked. All of
its memory arrives, the tracker misses nothing, and says that its log was lost. A move takes
a minute or two: make check does each move with one of the logs, make check-long with both."""

import re

import judge
import pytest
from conftest import long
from testbed import oohjson

TESTS = "/usr/lib/ooh/tests"
# Xen's tools send every page again when the guest stands still, and compare.
MIGRATE = "xl -vvv migrate --debug -s '' guest 'xl migrate-receive' >/tmp/migrate.log 2>&1; echo $?"


@pytest.fixture(scope="module")
def pair(machines):
    m = machines("migrate")
    yield m
    m.down()


class Tracked:
    """Processes in the guest, each with an ooh verify that goes on while other things
    happen to the guest: rounds until it is told to end."""

    def __init__(self, m, log, *ways):
        self.m, self.ways = m, ways
        # one command line to the guest at a time: the end is told by time, not by a file
        script = "".join(
            f"setsid ooh verify --json -b {log} -n 100000 -i 100 -- {TESTS}/changers {w} "
            f">/tmp/{w}.json 2>/tmp/{w}.err & echo $! >/tmp/{w}.pid; "
            for w in ways)
        m.sh("pkill -x ooh; rm -f /tmp/*.pid")
        m.good(f"({script}) </dev/null >/dev/null 2>&1; sleep 3; kill -0 $(cat /tmp/*.pid)")

    def end(self):
        """What each way's rounds were like, a few of them after what happened included."""
        self.m.good("sleep 3; kill -TERM $(cat /tmp/*.pid)")
        docs = []
        for w in self.ways:
            self.m.good(f"for i in $(seq 300); do kill -0 $(cat /tmp/{w}.pid) 2>/dev/null || "
                        "exit 0; sleep 0.2; done; exit 1")
            text = self.m.good(f"cat /tmp/{w}.json; cat /tmp/{w}.err >&2")
            docs.append(oohjson.verified(text))
        return docs


def noticed(doc):
    """Nothing was missed, as everything was reported when the log stayed behind."""
    assert doc["total"]["missed"] == 0 < doc["total"]["changed"]
    lost = [r for r in doc["rounds"] if r["all_dirty"]]
    assert lost, "the tracker did not notice that its log stayed behind"
    assert all("migrated" in r["reason"] or "restored" in r["reason"] for r in lost)
    # and it is a tracker again: rounds with only what changed follow
    after = doc["rounds"][doc["rounds"].index(lost[-1]) + 1:]
    assert after and not any(r["all_dirty"] for r in after)
    assert any(r["changed"] for r in after)


@pytest.mark.parametrize("log", ["spml", long("epml")])
@pytest.mark.timeout(3000)
def test_live_migration(pair, log):
    before = pair.dom0("xl domid guest").stdout.strip()
    tracked = Tracked(pair, log, "threads", "map", "fork")
    status = pair.dom0(MIGRATE, timeout=900).stdout.strip()
    said = pair.dom0("cat /tmp/migrate.log").stdout
    assert status == "0", said[-3000:]
    assert pair.dom0("xl domid guest").stdout.strip() != before
    for doc in tracked.end():
        noticed(doc)
    # the comparison took place, and every frame was the same
    assert "verify mode" in said.lower(), said[-3000:]
    assert not re.findall(r"verify pfn .* failed.*", said)


def save_and_restore(pair):
    r = pair.dom0("mkdir -p /tmp/room && mount -t tmpfs -o size=500m room /tmp/room && "
                  "xl save guest /tmp/room/saved && xl restore /tmp/room/saved; s=$?; "
                  "umount /tmp/room; exit $s",
                  timeout=900)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("log", ["epml", long("spml")])
@pytest.mark.timeout(3000)
def test_save_and_restore(pair, log):
    tracked = Tracked(pair, log, "threads", "map")
    save_and_restore(pair)
    for doc in tracked.end():
        noticed(doc)


@pytest.mark.parametrize("log", ["spml", long("epml")])
@pytest.mark.timeout(3000)
def test_restored_without_a_tracker(pair, log):
    """Xen's bitmap stayed behind, and nobody was there to notice: the next
    tracker has Xen start again."""
    pair.sh("pkill -x ooh; pkill -x changers; sleep 1")
    save_and_restore(pair)
    doc = judge.sound(pair.sh(f"ooh verify --json -b {log} -n 5 -i 100 -- {TESTS}/changers store"))
    assert not any(r["all_dirty"] for r in doc["rounds"])


@pytest.mark.timeout(3000)
def test_who_waits_is_told(pair):
    """A tracker that waits in poll(2), without a limit and for more than ever comes, is woken."""
    pair.sh("pkill -x ooh; pkill -x changers; sleep 1")
    pair.good(f"OOH_TESTED=spml setsid {TESTS}/waiting 600 </dev/null >/tmp/waiting 2>&1 & "
              "sleep 2; grep waits /tmp/waiting")
    save_and_restore(pair)
    pair.good("for i in $(seq 100); do pgrep -x waiting >/dev/null || break; sleep 0.2; done; "
              "cat /tmp/waiting; "
              "[ $(grep -c ok: /tmp/waiting) = 4 ] && ! grep FAIL /tmp/waiting")


@pytest.mark.parametrize("log", ["epml", long("spml")])
@pytest.mark.timeout(3000)
def test_a_migration_that_is_broken_off(pair, log):
    """The guest stays where it is, log-dirty mode ends, and its tracker goes on with its log."""
    before = pair.dom0("xl domid guest").stdout.strip()
    tracked = Tracked(pair, log, "threads", "map")
    r = pair.dom0("xl migrate -s '' guest 'head -c 3000000 | xl migrate-receive' 2>&1", timeout=900)
    assert r.returncode != 0
    assert pair.dom0("xl domid guest").stdout.strip() == before
    for doc in tracked.end():
        assert doc["total"]["missed"] == 0 < doc["total"]["changed"]
