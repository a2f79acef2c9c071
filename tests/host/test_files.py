# SPDX-License-Identifier: GPL-2.0-only
"""Pages of files, with pagemap-scan: told where nobody can have written them, and reported in each
way in which somebody can (docs/soundness.md, "Files that nobody writes")."""

import json
import mmap
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hostlib import HERE, TOP, USE_LIB, compile_c, need, ooh
from test_native import Talk, hit, pages_of, parse

BACKEND = "pagemap-scan"
PAGES = range(8)
TRUSTED = ("ext2/ext3", "xfs", "f2fs")
SETTLED = 4.5  # seconds, after which the time of a file tells of every write


@pytest.fixture(scope="module")
def bin_(tmp_path_factory):
    need(BACKEND)
    d = tmp_path_factory.mktemp("bin")
    compile_c(d / "filemap", HERE / "filemap.c")
    compile_c(d / "collector", HERE / "collector.c", flags=USE_LIB)
    return d


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Files whose last change is so long ago that the next one has another time."""
    d = tmp_path_factory.mktemp("files")
    kind = subprocess.run(["stat", "-f", "-c", "%T", d], check=True, capture_output=True,
                          text=True).stdout.strip()
    if kind not in TRUSTED:
        pytest.skip(f"{d} is on {kind}, whose times are not relied on")
    files = [d / str(n) for n in range(40)]
    for n, f in enumerate(files):
        f.write_bytes(b"".join(bytes([n + 1, p]) * 2048 for p in PAGES))
    time.sleep(SETTLED)
    return files


@pytest.fixture
def file(pool):
    return pool.pop()


class Tracked:
    """filemap and a tracker of it, after two rounds"""

    def __init__(self, bin_, *files):
        self.work = Talk(bin_ / "filemap", *map(str, files))
        self.private, self.shared = (int(x, 16) for x in self.work.first.split())
        self.tell = Talk(bin_ / "collector", str(self.work.p.pid), BACKEND)
        self.collect()

    def collect(self):
        """Of the two mappings, the pages that were reported, written, and not known."""
        flags, *sets = parse(self.tell.say("collect"))
        assert flags == 0
        return [[[n for n in PAGES if hit(s, at + n * 4096)] for at in (self.private, self.shared)]
                for s in sets]

    def say(self, line):
        assert self.work.say(line) == "done"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tell.__exit__()
        self.work.__exit__()


@pytest.fixture
def tracked(bin_, file):
    with Tracked(bin_, file) as t:
        assert t.collect() == NOTHING
        yield t


NOTHING = [[[], []]] * 3


def reported(t, pages, private=None):
    """These, and in each of the two mappings."""
    all_, _, _ = t.collect()
    assert set(pages) <= set(all_[1]), all_
    assert set(pages if private is None else private) <= set(all_[0]), all_


def test_a_file_that_nobody_writes_is_told(tracked):
    for _ in range(3):
        assert tracked.collect() == NOTHING


def test_it_is_told_again_once_it_has_settled(tracked, file):
    with open(file, "r+b") as f:
        f.write(b"new")
    # a write now could have the time of that one
    for _ in range(4):
        reported(tracked, PAGES)
    time.sleep(SETTLED)
    for _ in range(2):
        tracked.collect()
    assert tracked.collect() == NOTHING


@pytest.mark.parametrize("old", [True, False])
def test_write_by_a_descriptor(tracked, file, old):
    """Opened and closed within the round; or with a time from before that is put back."""
    before = os.stat(file)
    with open(file, "r+b") as f:
        f.seek(3 * 4096)
        f.write(b"new")
    if old:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    reported(tracked, [3])


def test_a_descriptor_from_before(bin_, file):
    """It was open for writing when the tracker came."""
    with open(file, "r+b") as f, Tracked(bin_, file) as t:
        for n in (1, 2):
            os.pwrite(f.fileno(), b"new", n * 4096)
            reported(t, [n])
        # the last write may be of this round
        f.close()
        reported(t, [2])


@pytest.mark.parametrize("until_the_end", [True, False])
def test_a_write_that_sets_no_time(tracked, file, until_the_end):
    """Somebody maps it, writes, closes the descriptor, and writes again: without a
    fault, as the page is dirty already. The mapping is there at both ends of the round,
    or at its beginning only."""
    fd = os.open(file, os.O_RDWR)
    with mmap.mmap(fd, 0) as m:
        os.close(fd)
        m[5 * 4096] = 50
        time.sleep(SETTLED)
        for _ in range(2):
            tracked.collect()
        before = os.stat(file).st_ctime_ns
        m[5 * 4096] = 51
        if until_the_end:
            reported(tracked, [5])
    if not until_the_end:
        reported(tracked, [5])
    assert os.stat(file).st_ctime_ns == before


@pytest.mark.parametrize("size", [0, 2 * 4096, 2 * 4096 + 50])
def test_truncate(tracked, file, size):
    """By truncate(2), and extended to what it was: all that came after is zeros, a page in part."""
    os.truncate(file, size)
    os.truncate(file, 8 * 4096)
    tracked.say("read")
    reported(tracked, range((size + 4095) // 4096 - (size % 4096 > 0), 8))


def test_truncate_by_an_open_for_reading(tracked, file):
    """O_RDONLY | O_TRUNC breaks no lease."""
    os.close(os.open(file, os.O_RDONLY | os.O_TRUNC))
    tracked.say("read")
    reported(tracked, PAGES)


def test_hole(tracked, file):
    subprocess.run(["fallocate", "-p", "-o", "8192", "-l", "4096", file], check=True)
    tracked.say("read")
    reported(tracked, [2])


def test_a_copy_is_written_once(tracked):
    """A private copy that differs from the file is told as other private memory is."""
    tracked.say("copy 3")
    assert tracked.collect() == [[[3], []], [[3], []], [[], []]]
    assert tracked.collect() == NOTHING
    tracked.say("copy 3")
    assert tracked.collect() == [[[3], []], [[3], []], [[], []]]
    assert tracked.collect() == NOTHING


def test_a_copy_that_is_dropped(tracked):
    tracked.say("copy 3")
    tracked.collect()
    assert tracked.collect() == NOTHING
    tracked.say("drop 3")
    tracked.say("read")
    all_, written, _ = tracked.collect()
    assert all_[0] == written[0] == [3]


def test_a_copy_that_came_and_went(tracked):
    """The page is of the file before and after; who looked in between saw something else."""
    tracked.say("copy 3")
    tracked.say("drop 3")
    tracked.say("read")
    assert tracked.collect()[0][0] == [3]


def test_a_copy_like_the_file_is_not_known(tracked):
    """It could be a new one."""
    tracked.say("same 3")
    assert tracked.collect()[1][0] == [3]
    for _ in range(2):
        assert tracked.collect() == [[[3], []], [[], []], [[3], []]]


def test_a_copy_of_code_is_not_known(tracked):
    tracked.say("copy 3")
    tracked.say("exec 3")
    tracked.collect()
    assert tracked.collect() == [[[3], []], [[], []], [[3], []]]


@pytest.mark.parametrize("how", ["over", "shift"])
def test_another_content_in_its_place(bin_, pool, how):
    """Another file that is known as well, or another part of the same."""
    file, other = pool.pop(), pool.pop()
    with Tracked(bin_, file, other) as t:
        assert t.collect() == NOTHING
        t.say(f"{how} {other if how == 'over' else file}")
        t.say("read")
        reported(t, PAGES if how == "over" else range(7))
        for _ in range(2):
            t.collect()
        assert t.collect() == NOTHING


def test_writers_are_not_in_the_way(bin_, file):
    """They open it again and again while it is looked at, and none fails."""
    code = ("import os, sys, time\nn = 0\nend = time.time() + 2\nprint('go', flush=True)\n"
            "while time.time() < end:\n    os.close(os.open(sys.argv[1], os.O_WRONLY))\n"
            "    n += 1\nprint(n)")
    with Tracked(bin_, file) as t, Talk("python3", "-c", code, file) as writer:
        rounds = 0
        while writer.p.poll() is None:
            t.collect()
            rounds += 1
        assert int(writer.p.stdout.readline()) > 1000 and rounds > 50 and writer.p.returncode == 0


@pytest.mark.parametrize("case", ["clock", "closed", "signal"])
def test_unit(case, file, tmp_path):
    """Each case of unit_files.c is one claim, which stands there."""
    src = TOP / "libooh" / "src"
    p = compile_c(tmp_path / "u", HERE / "unit_files.c",
                  *(src / f"{n}.c" for n in ("files", "vmas", "mem", "proc", "ownfd")),
                  flags=["-Wl,--wrap=read"])
    r = subprocess.run([p, case, file], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr


def test_a_process_between_two_faults(file, tmp_path):
    need(BACKEND)
    p = compile_c(tmp_path / "u", HERE / "unit_copies.c", flags=USE_LIB)
    r = subprocess.run([p, file], capture_output=True, text=True, timeout=120)
    print(r.stdout)
    if r.returncode == 77:
        pytest.skip("it was never stopped there")
    assert r.returncode == 0, r.stdout + r.stderr


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
LEASES = [*NOBODY, "--inh-caps=+lease", "--ambient-caps=+lease"]


@pytest.fixture
def public(bin_):
    """A folder that everybody can read, with the programs"""
    if os.geteuid():
        pytest.skip("needs root, to be somebody else")
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        for name in ("filemap", "collector"):
            shutil.copy(bin_ / name, d)
        yield Path(d)


def told(public, file, tracker):
    """Whether pages of the file, and of others' files, are told to an ordinary user's tracker."""
    with Talk(*NOBODY, public / "filemap", str(file)) as work:
        with Talk(*tracker, public / "collector", str(work.p.pid), BACKEND) as tell:
            for _ in range(3):
                _, _, _, unknown = parse(tell.say("collect"))
            ours = [int(x, 16) for x in work.first.split()]
            mine = {at + n * 4096 for at in ours for n in PAGES}
            return not pages_of(unknown) & mine, len(pages_of(unknown) - mine) < 5


def test_what_an_ordinary_user_is_told(public, pool, file):
    """Of files of one's own; with CAP_LEASE of others' as well."""
    mine, others = public / "mine", public / "others"
    for f, owner in ((mine, 65534), (others, 0)):
        shutil.copy(file, f)
        os.chown(f, owner, owner)
        os.chmod(f, 0o644)
    time.sleep(SETTLED)
    assert told(public, mine, NOBODY) == (True, False)
    assert told(public, others, NOBODY) == (False, False)
    assert told(public, others, LEASES) == (True, True)


def test_a_file_system_without_writers(public, file):
    """squashfs: nobody can write there, so no lease is needed."""
    if not shutil.which("mksquashfs") or not Path("/dev/loop-control").exists():
        pytest.skip("there is no mksquashfs, or no loop device")
    image, at = public / "image", public / "at"
    at.mkdir()
    (public / "in").mkdir()
    shutil.copy(file, public / "in" / "file")
    os.chmod(public / "in" / "file", 0o644)
    subprocess.run(["mksquashfs", public / "in", image, "-quiet", "-no-progress"], check=True,
                   stdout=subprocess.DEVNULL)
    r = subprocess.run(["mount", "-o", "loop,ro", "-t", "squashfs", image, at], capture_output=True,
                       text=True)
    if r.returncode:
        pytest.skip(f"no squashfs: {r.stderr}")
    try:
        assert told(public, at / "file", NOBODY)[0]
    finally:
        subprocess.run(["umount", at], check=True)


def redis(tmp_path):
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server")
    return ["redis-server", "--port", "0", "--unixsocket", str(tmp_path / "socket"), "--save", ""]


IDLE = {
    "redis-server": redis,
    "bash": lambda _: ["bash", "--norc", "-c", "read x; read x"],
    "python3": lambda _: ["/usr/bin/python3", "-c", "input()"],
    "sleep": lambda _: ["sleep", "60"],
}


def idle(argv, prefix=()):
    p = subprocess.Popen([*prefix, *argv], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    time.sleep(1.5)
    return p


@pytest.mark.parametrize("name", IDLE)
def test_idle_programs(name, tmp_path):
    """At most one page in a hundred is not known, for whoever may take
    leases; nothing is missed."""
    need(BACKEND)
    if os.geteuid():
        pytest.skip("needs CAP_LEASE for files of others")
    exe = shutil.which(IDLE[name](tmp_path)[0])
    kind = subprocess.run(["stat", "-L", "-f", "-c", "%T", exe], check=True, capture_output=True,
                          text=True).stdout.strip()
    if kind not in TRUSTED:
        pytest.skip(f"{exe} is on {kind}, whose times are not relied on")
    p = idle(IDLE[name](tmp_path))
    try:
        doc = json.loads(ooh("verify", "--json", "-b", BACKEND, "-n", 4, "-p", p.pid).stdout)
        for r in doc["rounds"][1:]:
            print(name, r["unknown"], "of", r["mapped"])
            assert r["unknown"] <= r["mapped"] / 100 and r["missed"] == 0
    finally:
        p.kill()
        p.wait()
