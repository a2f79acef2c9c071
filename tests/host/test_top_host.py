# SPDX-License-Identifier: GPL-2.0-only
"""ooh top: its text, its JSON, and its screen, in a real terminal of several sizes."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hostlib import HERE, OOH, TOP, backends, compile_c, need, ooh

BACKEND = "pagemap-scan"


@pytest.fixture(scope="module")
def bin_(tmp_path_factory):
    need(BACKEND)
    d = tmp_path_factory.mktemp("bin")
    for name in ("changers", "pages"):
        compile_c(d / name, HERE / f"{name}.c")
    return d


@pytest.fixture
def work(bin_):
    """Two processes: one writes its memory all the time, the other nothing."""
    busy = subprocess.Popen([bin_ / "changers", "threads"], stdout=subprocess.PIPE)
    idle = subprocess.Popen([bin_ / "pages"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    busy.stdout.readline()
    idle.stdout.readline()
    yield busy, idle
    for p in (busy, idle):
        p.kill()
        p.wait()
        p.stdout.close()
    idle.stdin.close()


def test_hot_ranges(tmp_path):
    san = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    p = compile_c(tmp_path / "u", HERE / "unit_heat.c", TOP / "libooh/cmd/heat.c", flags=san)
    r = subprocess.run([p], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr


def test_json(work):
    busy, idle = work
    r = ooh("top", "--json", "-b", BACKEND, "-n", 4, "-i", 100, "-p", f"{busy.pid},{idle.pid}", "-p", busy.pid)
    assert r.returncode == 0, r.stderr
    docs = [json.loads(l) for l in r.stdout.splitlines()]
    assert [d["round"] for d in docs] == [1, 2, 3, 4]
    for d in docs:
        first, second = d["processes"]
        assert (first["pid"], second["pid"]) == (busy.pid, idle.pid)
        assert first["command"] == "changers" and second["command"] == "pages"
        # rates that fit what it writes; the other one writes nothing of its own
        assert (first["bytes_per_second"] > 0) == (first["written"] > 0)
        assert first["mapped"] >= first["written"] * 0.5 and not first["all_dirty"]
        assert first["last_all_dirty"] is None and first["collect_ns"] > 0
        # an idle process is cold, and so are programs and libraries
        assert sum(h["written"] for h in second["hot"]) < 20, second["hot"]
        assert not any(h["mapping"].startswith("/") for h in second["hot"])
    # not in each round: the machine may be busy
    assert max(d["processes"][0]["written"] for d in docs) > 150
    assert any(h["written"] > 100 and not h["mapping"].startswith("/") for d in docs for h in d["processes"][0]["hot"])


def test_text_and_an_exec(tmp_path):
    """The round in which everything was dirty, when and why."""
    need(BACKEND)
    out = ooh("top", "--batch", "-b", BACKEND, "-n", 12, "-i", 150, "--",
              "sh", "-c", "echo spoilt; sleep 1; exec sleep 9")
    assert out.returncode == 0 and "spoilt" not in out.stdout
    said = re.findall(r"everything dirty: 1 of (\d+) rounds, last at \d\d:\d\d:\d\d \(round (\d+)\): "
                      "the process executed a new program", out.stdout)
    assert said and len({r for _, r in said}) == 1
    assert "everything dirty: never" in out.stdout.split("\n\n")[0]
    assert re.search(r" sleep .* 12 pagemap-scan", out.stdout)


def test_times_in_json_are_of_one_kind(tmp_path):
    need(BACKEND)
    out = ooh("top", "--json", "-b", BACKEND, "-n", 12, "-i", 150, "--", "sh", "-c", "sleep 1; exec sleep 9").stdout
    docs = [json.loads(line) for line in out.splitlines()]
    times = [d["time"] for d in docs] + [d["processes"][0]["last_all_dirty"]["time"] for d in docs if d["processes"][0]["last_all_dirty"]]
    assert len(times) > 12 and all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", t) for t in times), times


def test_processes_that_end(bin_):
    p = [subprocess.Popen(["sleep", t]) for t in ("0.4", "0.8")]
    r = ooh("top", "--batch", "-b", BACKEND, "-n", 100, "-i", 100, "-p", f"{p[0].pid},{p[1].pid}")
    for x in p:
        x.wait()
    assert r.returncode == 4 and f"process {p[1].pid} ended" in r.stderr
    last = r.stdout.strip().split("\n\n")[-1]
    assert last.count("ended after") == 2 and "0 of 2 running" in last
    assert "1 of 2 running" in r.stdout


def test_names_cannot_steer_the_terminal(tmp_path):
    need(BACKEND)
    evil = tmp_path / "a\x1b[2Jb"
    os.symlink("/bin/sleep", evil)
    for flag in ("--batch", "--json"):
        r = ooh("top", flag, "-b", BACKEND, "-n", 2, "-i", 50, "--", evil, "9")
        assert r.returncode == 0 and "\x1b" not in r.stdout and "u001" not in r.stdout
        assert "a?[2Jb" in r.stdout


def test_closed_output(work):
    p = subprocess.Popen([OOH, "top", "--batch", "-b", BACKEND, "-i", "10", "-p", str(work[0].pid)],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    p.stdout.read(10)
    p.stdout.close()
    p.wait(timeout=20)
    assert work[0].poll() is None


class Terminal:
    """A terminal of its own, of tmux: what a person would see, and keys."""

    def __init__(self, tmp_path, command, cols, rows, term="screen"):
        self.cmd = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
        self.status = tmp_path / "status"
        shell = f"TERM={term} {shlex.join(map(str, command))}; echo $? >{self.status}; sleep 60"
        self.tmux("new-session", "-d", "-x", str(cols), "-y", str(rows), shell)

    def tmux(self, *args):
        return subprocess.run([*self.cmd, *args], check=True, capture_output=True, text=True).stdout

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def size(self, cols, rows):
        self.tmux("resize-window", "-x", str(cols), "-y", str(rows))

    def screen(self):
        return self.tmux("capture-pane", "-p").splitlines()

    def wait(self, what, seconds=20):
        """Until what(screen) holds; the screen"""
        end = time.monotonic() + seconds
        while True:
            screen = self.screen()
            if what(screen):
                return screen
            if time.monotonic() > end:
                raise AssertionError("\n".join(screen))
            time.sleep(0.05)

    def ended(self):
        end = time.monotonic() + 20
        while not self.status.exists() or not self.status.read_text():
            assert time.monotonic() < end, self.screen()
            time.sleep(0.05)
        return int(self.status.read_text())

    def __enter__(self):
        return self

    def child(self):
        """What runs in it; None: nothing any more"""
        shell = self.tmux("display", "-p", "#{pane_pid}").strip()
        pids = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(pids[0]) if pids and not self.status.exists() else None

    def __exit__(self, *_):
        # Ended before its terminal is: what hangs up continues it, too, and that takes away the stop in which
        # the leak sanitizer waits for it to be, at its end, forever.
        with contextlib.suppress(subprocess.CalledProcessError, OSError, AssertionError):
            pid = self.child()
            if pid:
                os.kill(pid, signal.SIGTERM)
                self.ended()
        subprocess.run([*self.cmd, "kill-server"], capture_output=True)


@pytest.fixture
def terminal(tmp_path, work):
    pids = f"{work[0].pid},{work[1].pid}"
    with Terminal(tmp_path, [OOH, "top", "-b", BACKEND, "-i", "100", "-p", pids], 80, 24) as t:
        # the first round is there
        t.wait(lambda s: any("% #####" in l for l in s))
        yield t


def column(screen, pid, name):
    """What stands below the end of a heading."""
    head = next(l for l in screen if l.lstrip().startswith("PID"))
    row = next(l for l in screen if l.lstrip().startswith(f"{pid} ") and "." in l)
    end = head.index(name) + len(name)
    return row[:end].split()[-1]


def test_screen(terminal, work):
    busy, idle = work
    # on a busy machine it writes little in some rounds
    s = terminal.wait(lambda s: int(column(s, busy.pid, "WRITTEN")) > 100)
    assert s[0].startswith("ooh top - ") and "2 of 2 running" in s[0] and "every 0.1 s" in s[0]
    assert float(column(s, busy.pid, "MB/s")) > 0
    assert all(w in s[1] for w in ("SHARE", "UNKNOWN", "MAPPED", "COLLECT", "ROUND", "BACKEND"))
    assert any(BACKEND in l for l in s[2:4])
    assert "everything dirty: never" in s
    assert any(l.startswith("q quit") for l in s)
    # the hottest first: the area it writes, with a full bar
    top = s.index(next(l for l in s if "MAPPING" in l)) + 1
    counts = [int(l.split()[0]) for l in s[top:] if "%" in l]
    assert counts == sorted(counts, reverse=True) and counts[0] > 100


def test_keys(terminal, work):
    busy, idle = work
    by_rate = [l.split()[0] for l in terminal.screen()[2:4]]
    assert by_rate == [str(busy.pid), str(idle.pid)]
    terminal.keys("j")
    terminal.wait(lambda s: any(l.startswith(f"{idle.pid} pages:") for l in s))
    terminal.keys("Up")
    terminal.wait(lambda s: any(l.startswith(f"{busy.pid} changers:") for l in s))
    terminal.keys("+")
    terminal.wait(lambda s: "every 0.2 s" in s[0])
    terminal.keys("-", "-")
    terminal.wait(lambda s: "every 0.05 s" in s[0])
    for name in ("share", "mapped", "PID", "MB/s"):
        terminal.keys("s")
        terminal.wait(lambda s: f"by {name}" in s[0])
    terminal.keys("h")
    terminal.wait(lambda s: any("this help" in l for l in s))
    terminal.keys("h")
    terminal.wait(lambda s: "2 of 2 running" in s[0])
    terminal.keys("p")
    terminal.wait(lambda s: "PAUSED" in s[0])
    time.sleep(0.5)  # the rest of that screen
    s = terminal.screen()
    time.sleep(0.5)
    assert column(terminal.screen(), busy.pid, "ROUND") == column(s, busy.pid, "ROUND")
    terminal.keys("p")
    terminal.wait(lambda n: column(n, busy.pid, "ROUND") != column(s, busy.pid, "ROUND"))
    terminal.keys("q")
    assert terminal.ended() == 0
    assert busy.poll() is None and idle.poll() is None
    # the screen is given back
    assert not any("COMMAND" in l for l in terminal.screen())


@pytest.mark.parametrize("cols,rows", [(120, 40), (200, 60), (60, 15), (40, 10), (20, 5), (10, 3), (2, 1)])
def test_sizes(terminal, work, cols, rows):
    terminal.size(cols, rows)
    if cols >= 40:
        s = terminal.wait(lambda s: len(s) == rows and s[0].startswith("ooh top") and f"{work[0].pid} c" in s[2])
        assert all(len(l) <= cols for l in s)
        if cols >= 100:
            # room for the names and the addresses
            terminal.wait(lambda s: any(re.search(r"-[0-9a-f]{12} \(anonymous\)", l) for l in s))
    time.sleep(0.3)
    terminal.keys("j", "h", "h")
    terminal.size(80, 24)
    terminal.wait(lambda s: len(s) == 24 and "2 of 2 running" in s[0] and "MAPPING" in "".join(s))
    terminal.keys("q")
    assert terminal.ended() == 0


@pytest.mark.parametrize("cols", [40, 80, 200])
def test_nothing_is_cut_in_the_middle(tmp_path, work, cols):
    """Of what a person reads as a sentence; what finds no room is left out as a whole."""
    if next(n for n, b in backends().items() if b["usable"]) != BACKEND:
        pytest.skip("another backend is the best one here")
    with Terminal(tmp_path, [OOH, "top", "-i", "100", "-p", work[0].pid], cols, 50) as t:
        s = t.wait(lambda s: any(l.endswith(" (anonymous)") for l in s) and s[-1].endswith("h help"))
        choice = next(l for l in s if l.startswith(f"{work[0].pid} changers: "))
        assert choice.split(": ", 1)[1].startswith(f"using {BACKEND}")
        assert (len(choice) == len(f"{work[0].pid} changers: using {BACKEND}")) == (cols <= 80)
        assert choice.count("(") == choice.count(")")
        t.keys("h")
        s = t.wait(lambda s: any("this help" in l for l in s))
        text = " ".join(" ".join(s).split())
        assert "pages of which the tracker cannot tell whether they changed" in text
        assert "those that find no room are left out." in text
        t.keys("q")


def test_many_processes_in_little_room(tmp_path, bin_):
    work = [subprocess.Popen(["sleep", "60"]) for _ in range(12)]
    try:
        pids = sorted(p.pid for p in work)
        argv = [OOH, "top", "-b", BACKEND, "-i", "100", "-p", ",".join(map(str, pids))]
        with Terminal(tmp_path, argv, 80, 14) as t:
            t.wait(lambda s: "12 of 12 running" in s[0])
            t.keys("s", "s", "s")
            t.wait(lambda s: "by PID" in s[0])
            t.keys(*["k"] * 12)
            t.wait(lambda s: str(pids[0]) in s[2])
            t.keys(*["j"] * 11)
            t.wait(lambda s: any(l.startswith(f"{pids[-1]} sleep:") for l in s)
                   and any(l.startswith(f"{pids[-1]:7} sleep ") for l in s))
            t.keys("q")
            assert t.ended() == 0
    finally:
        for p in work:
            p.kill()
            p.wait()


def test_a_process_ends(terminal, work):
    work[0].kill()
    work[0].wait()
    s = terminal.wait(lambda s: any("ended after" in l for l in s))
    assert "1 of 2 running" in s[0]
    terminal.keys("q")
    assert terminal.ended() == 0


@pytest.mark.parametrize("sig", ["INT", "TERM", "HUP"])
def test_signals(terminal, tmp_path, sig):
    os.kill(terminal.child(), getattr(signal, f"SIG{sig}"))
    assert terminal.ended() == 0
    assert not any("COMMAND" in l for l in terminal.screen())


def test_a_command_on_the_screen(tmp_path, bin_):
    """Its output does not spoil the screen, and it ends with us."""
    argv = [OOH, "top", "-b", BACKEND, "-i", "100", "--", "sh", "-c", "while :; do echo spoilt; sleep 0.05; done"]
    with Terminal(tmp_path, argv, 80, 24) as t:
        s = t.wait(lambda s: "1 of 1 running" in s[0] and any("% #" in l for l in s))
        pid = int(s[2].split()[0])
        assert not any("spoilt" in l for l in s)
        t.keys("q")
        assert t.ended() == 0
    assert not os.path.exists(f"/proc/{pid}")


def test_no_terminal_it_knows(tmp_path, work):
    with Terminal(tmp_path, [OOH, "top", "-b", BACKEND, "-p", work[0].pid], 80, 24, term="nonsense") as t:
        t.wait(lambda s: any('"nonsense" is not known' in l for l in s))
        assert t.ended() == 2
