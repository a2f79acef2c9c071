# SPDX-License-Identifier: GPL-2.0-only
"""The native trackers: what is written is reported, what is not is not."""

import json
import os
import signal
import subprocess
import time

import pytest
from conftest import WAYS
from hostlib import HERE, NATIVE, OOH, TOP, USE_LIB, compile_c, need, ooh, verify
from pathlib import Path


@pytest.fixture(scope="module")
def bin_(tmp_path_factory):
    d = tmp_path_factory.mktemp("bin")
    for name in ("changers", "pages"):
        compile_c(d / name, HERE / f"{name}.c")
    compile_c(d / "collector", HERE / "collector.c", flags=USE_LIB)
    compile_c(d / "unit_library", HERE / "unit_library.c", flags=USE_LIB)
    return d


class Talk:
    """A program at the end of two pipes: a line for a line."""

    def __init__(self, *args):
        self.p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self.p.stdout.readline().strip()

    def say(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()


def spans_of(words):
    spans = [tuple(int(x, 16) for x in r.split("-")) for r in words]
    assert spans == sorted(spans)
    assert all(a[1] < b[0] for a, b in zip(spans, spans[1:]))
    return spans


def pages_of(spans):
    return {at for s, e in spans for at in range(s, e, 4096)}


def parse(line):
    """The flags, and three sets of ranges: all, written, not known. The last
    two make up the first."""
    flags, *words = line.split(" ")
    all_, written, unknown = (spans_of(part.split()) for part in " ".join(words).split("|"))
    assert not pages_of(written) & pages_of(unknown)
    assert pages_of(written) | pages_of(unknown) == pages_of(all_)
    return int(flags), all_, written, unknown


def hit(spans, page):
    return any(s <= page < e for s, e in spans)


@pytest.mark.parametrize("backend", NATIVE)
def test_both_directions(bin_, backend):
    need(backend)
    with Talk(bin_ / "pages") as pages:
        base = int(pages.first, 16)
        with Talk(bin_ / "collector", str(pages.p.pid), backend) as tell:
            assert tell.first == backend
            for wanted in ([3, 4, 50], [], [63], [3], [0, 1, 2, 3, 62], []):
                assert pages.say(" ".join(map(str, wanted))) == "done"
                flags, spans, written, _ = parse(tell.say("collect"))
                assert flags == 0
                for found in (spans, written):
                    assert [n for n in range(64) if hit(found, base + n * 4096)] == wanted


@pytest.mark.parametrize("backend", NATIVE)
def test_exec_is_all_dirty(bin_, backend):
    need(backend)
    with Talk(bin_ / "pages") as pages:
        with Talk(bin_ / "collector", str(pages.p.pid), backend) as tell:
            base = int(pages.say("exec"), 16)
            flags, _, written, unknown = parse(tell.say("collect"))
            assert flags == 1 and not written
            assert all(hit(unknown, base + n * 4096) for n in range(64))
            pages.say("7")
            flags, spans, _, _ = parse(tell.say("collect"))
            assert flags == 0
            assert [n for n in range(64) if hit(spans, base + n * 4096)] == [7]


def mappings(pid):
    """(start, end, permissions, name) of each"""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, perms, _, _, _, *name = line.split(None, 5)
        yield (*(int(x, 16) for x in span.split("-")), perms, *(name or [""]))


@pytest.mark.parametrize("backend", NATIVE)
def test_an_idle_process_has_written_nothing(bin_, backend):
    """What cannot be told is of files, of shared memory or of the kernel, and stands apart."""
    need(backend)
    with Talk(bin_ / "pages") as pages:
        with Talk(bin_ / "collector", str(pages.p.pid), backend) as tell:
            tell.say("collect")
            _, spans, written, unknown = parse(tell.say("collect"))
            assert not written and unknown == spans != []
            shared = [(s, e) for s, e, perms, name in mappings(pages.p.pid)
                      if name.startswith(("/", "[vdso")) or perms[3] == "s"]
            assert all(any(s <= at < e for s, e in shared) for at in pages_of(unknown))


@pytest.mark.parametrize("backend", NATIVE)
def test_end_of_the_process(bin_, backend):
    need(backend)
    with Talk(bin_ / "pages") as pages:
        with Talk(bin_ / "collector", str(pages.p.pid), backend) as tell:
            pages.p.kill()
            pages.p.wait()
            for _ in range(2):
                assert tell.say("collect").startswith("error -3 ")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", NATIVE)
def test_nothing_missed(bin_, backend, way):
    need(backend)
    doc = verify("-b", backend, "-n", 4, "-i", 60, "--", bin_ / "changers", way)
    assert doc["backend"] == backend and len(doc["rounds"]) == 4
    assert doc["total"]["missed"] == 0
    for key in ("changed", "reported", "missed", "extra", "collect_ticks"):
        assert doc["total"][key] == sum(r[key] for r in doc["rounds"])
    assert doc["total"]["changed"] > 0
    for r in doc["rounds"]:
        assert r["extra"] <= r["reported"] <= r["mapped"] + r["changed"]


@pytest.mark.parametrize("backend", NATIVE)
def test_repeated_exec(backend, tmp_path):
    need(backend)
    script = tmp_path / "again"
    script.write_text('[ "$1" = 12 ] && exit 0; sleep 0.1; exec sh "$0" $(($1 + 1))\n')
    doc = verify("-b", backend, "-n", 6, "-i", 70, "--", "sh", script, 0)
    assert doc["total"]["missed"] == 0
    assert any(r["all_dirty"] and "new program" in r["reason"] for r in doc["rounds"])


def test_a_process_tracks_itself(tmp_path):
    need("pagemap-scan")
    p = compile_c(tmp_path / "self", HERE.parent / "guest/self.c", flags=USE_LIB)
    r = subprocess.run([p], capture_output=True, text=True, timeout=120)
    print(r.stdout)
    assert r.returncode == 0 and "ok:   pagemap-scan: others wrote" in r.stdout, r.stdout + r.stderr


def status_of(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.parametrize("sub", ["record", "verify"])
@pytest.mark.parametrize("backend", NATIVE)
def test_interrupt_leaves_the_process_unharmed(bin_, backend, sub):
    need(backend)
    with Talk(bin_ / "changers", "threads") as work:
        n = ["-n", "1000"] if sub == "verify" else []
        p = subprocess.Popen([OOH, sub, "-b", backend, *n, "-i", "20", "--json", "-p",
                              str(work.p.pid)], stdout=subprocess.PIPE, text=True)
        time.sleep(0.6)
        p.send_signal(signal.SIGINT)
        out, _ = p.communicate(timeout=20)
        assert p.returncode == 0
        assert len(out.splitlines() if sub == "record" else json.loads(out)["rounds"]) >= 1
        assert status_of(work.p.pid)["TracerPid"] == "0"
        assert status_of(work.p.pid)["State"][0] in "RS"
        assert work.p.poll() is None
        # and it can be tracked again
        verify("-b", backend, "-n", 1, "-p", work.p.pid)


@pytest.mark.parametrize("backend", NATIVE)
def test_killed_tracker_leaves_the_process_running(bin_, backend):
    need(backend)
    with Talk(bin_ / "pages") as pages:
        with Talk(bin_ / "collector", str(pages.p.pid), backend):
            pass
        assert pages.say("1 2 3") == "done"
        assert pages.p.poll() is None


@pytest.mark.parametrize("backend", NATIVE)
def test_interrupted_calls_go_on(backend):
    need(backend)
    code = ("import select, time, sys\nt = time.monotonic()\ntime.sleep(1.5)\n"
            "select.select([], [], [], 0.2)\nsys.exit(time.monotonic() - t < 1.7)")
    work = subprocess.Popen(["/usr/bin/python3", "-c", code])
    for _ in range(3):
        ooh("verify", "-b", backend, "-n", 1, "-i", 10, "-p", work.pid)
    assert work.wait(timeout=20) == 0


def test_second_userfaultfd_is_refused(bin_):
    need("pagemap-scan")
    with Talk(bin_ / "pages") as pages:
        with Talk(bin_ / "collector", str(pages.p.pid), "pagemap-scan"):
            r = ooh("record", "-b", "uffd-wp", "-n", 1, "-p", pages.p.pid)
            assert r.returncode == 3 and "another userfaultfd" in r.stderr


def test_stopped_process_stays_stopped(bin_):
    need("pagemap-scan")
    with Talk(bin_ / "changers", "store") as work:
        os.kill(work.p.pid, signal.SIGSTOP)
        time.sleep(0.1)
        doc = verify("-b", "pagemap-scan", "-n", 2, "-p", work.p.pid)
        assert doc["total"]["changed"] == doc["total"]["missed"] == 0
        assert status_of(work.p.pid)["State"].startswith("T")
        os.kill(work.p.pid, signal.SIGCONT)


CASES = ["null", "sizes", "forked", "status", "leader", "execs"]


# stuck waits for a limit of 10 s, which is the same for all backends
@pytest.mark.parametrize("backend,case", [*((b, c) for b in NATIVE for c in CASES),
                                          ("pagemap-scan", "stuck")])
def test_library(bin_, backend, case):
    """Each case of unit_library.c is one claim, which stands there."""
    need(backend)
    r = subprocess.run([bin_ / "unit_library", case, backend], capture_output=True, text=True,
                       timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("backend", ["pagemap-scan", "uffd-wp"])
def test_under_seccomp_is_refused(backend, tmp_path):
    """A system call that the process never makes could end it: it is left alone, in words."""
    need(backend)
    c = tmp_path / "strict.c"
    c.write_text("""#include <sys/prctl.h>
                    #include <linux/seccomp.h>
                    #include <unistd.h>
                    int main(void)
                    {
                        char c = 'r';
                        prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
                        write(1, &c, 1);
                        read(0, &c, 1);
                        write(1, &c, 1);
                    }""")
    p = compile_c(tmp_path / "strict", c, flags=["-Wno-unused-result"])
    with subprocess.Popen([p], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as work:
        assert work.stdout.read(1) == b"r"
        r = ooh("record", "-b", backend, "-n", 1, "-p", work.pid)
        assert r.returncode == 3
        said = f"process {work.pid} cannot be tracked so: it runs under a seccomp filter"
        assert said in r.stderr
        work.stdin.write(b"x")
        work.stdin.flush()
        assert work.stdout.read(1) == b"x"
        work.kill()


@pytest.mark.parametrize("backend", ["pagemap-scan", "uffd-wp"])
def test_its_own_userfaultfd(bin_, backend):
    """While a process is tracked its own one is refused by the kernel
    (ooh(7)), and then no more."""
    need(backend)
    r = subprocess.run([bin_ / "unit_library", "own", backend], capture_output=True, text=True,
                       timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr


def test_a_process_that_is_killed_while_it_is_held_has_ended(tmp_path):
    """Its threads are the tracer's to wait for: ooh verify hung at its end."""
    san = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    p = compile_c(tmp_path / "u", HERE / "unit_stop.c", TOP / "libooh/src/stop.c", flags=san)
    r = subprocess.run([p], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stdout + r.stderr
