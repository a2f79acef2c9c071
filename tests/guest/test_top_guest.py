# SPDX-License-Identifier: GPL-2.0-only
"""ooh top in the guest: the log's figures, the reason of a lost log, and a terminal."""

import re
import subprocess
import time

import pytest
from conftest import LOGS, SOFTWARE, VM
from testbed import oohjson

CHANGERS = "/usr/lib/ooh/tests/changers"
# writes 2048 pages again and again
GREEDY = "dd if=/dev/zero of=/dev/null bs=8M"


@pytest.mark.parametrize("backend", LOGS + SOFTWARE)
def test_what_is_written_and_where(vm, backend):
    out = vm.good(f"{CHANGERS} store >/dev/null & a=$!; sleep 100 & b=$!; sleep 0.3;"
                  f"ooh top --json -b {backend} -i 200 -n 3 -p $a,$b; kill $a $b")
    docs = oohjson.rounds(out)
    assert [d["round"] for d in docs] == [1, 2, 3]
    for d in docs[1:]:
        work, idle = sorted(d["processes"], key=lambda p: p["command"])
        assert (work["command"], idle["command"]) == ("changers", "sleep")
        assert work["backend"] == backend and work["rounds"] == d["round"]
        anonymous = [h for h in work["hot"] if not h["mapping"]]
        assert work["written"] > 0 and anonymous
        assert work["mapped"] > 512 and work["bytes_per_second"] > 0
        assert not work["all_dirty"] and work["last_all_dirty"] is None
        if backend in LOGS:
            # nobody wrote it: not one page
            assert idle["written"] == idle["unknown"] == 0 and idle["hot"] == []


def test_a_lost_log_is_told(module):
    vm = module("inject=lost")
    text = vm.good(f"ooh top --batch -b spml -n 5 -i 100 -- {GREEDY} 2>/dev/null")
    told = re.findall(r"everything dirty: (\d) of 5 rounds, last at \d\d:\d\d:\d\d \(round (\d)\): "
                      r"(.*)", text)
    assert told and told[0][2] == "the guest was restored or migrated"
    vm = module()
    text = vm.good(f"ooh top --batch -b spml -n 3 -i 100 -- {GREEDY} 2>/dev/null")
    assert text.count("everything dirty: never") == 3


def test_the_process_ends(vm):
    r = vm.sh("sleep 1 & ooh top --batch -b spml -i 100 -n 1000 -p $!")
    assert r.returncode == 4 and "ended" in r.stderr and "0 of 1 running" in r.stdout


def test_a_terminal(vm, tmp_path):
    """The screen, by testbed/vm shell in a terminal of this machine."""
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    status = tmp_path / "status"

    def screen():
        return subprocess.run([*tmux, "capture-pane", "-p"], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.splitlines()

    def wait(what):
        for _ in range(600):
            now = screen()
            if what(now):
                return now
            time.sleep(0.1)
        raise AssertionError("\n".join(now))

    shell = (f"TERM=screen {VM} shell --config {vm.config} -- ooh top -b spml -i 300 -- {GREEDY}; "
             f"echo $? >{status}; sleep 60")
    subprocess.run([*tmux, "new-session", "-d", "-x", "90", "-y", "20", shell], check=True)
    try:
        now = wait(lambda s: any("100.0% ##########" in line for line in s))
        assert now[0].startswith("ooh top - ") and "1 of 1 running" in now[0]
        assert re.search(r" dd .* spml$", now[2])
        assert int(now[2].split()[3]) >= 2048
        subprocess.run([*tmux, "resize-window", "-x", "50", "-y", "10"], check=True)
        wait(lambda s: len(s) == 10 and s[-1].startswith("q quit") and " dd " in s[2]
             and len(s[2]) <= 50)
        subprocess.run([*tmux, "send-keys", "q"], check=True)
        wait(lambda s: status.exists() and status.read_text())
        assert status.read_text() == "0\n"
    finally:
        subprocess.run([*tmux, "kill-server"], stderr=subprocess.DEVNULL)
