# SPDX-License-Identifier: GPL-2.0-only
"""The examples of libooh with the log print what is true."""

import re

from conftest import LOGS

DIR = "/usr/lib/ooh/examples"
# writes 2048 pages again and again
GREEDY = "dd if=/dev/zero of=/dev/null bs=8M"


def test_other(vm):
    out = vm.good(f"{GREEDY} 2>/dev/null & p=$!; sleep 0.3; {DIR}/other $p 3; kill $p")
    assert out.startswith(f"using {LOGS[0]}\n")
    kib = [int(n) for n in re.findall(r"^(\d+) KiB in \d+ ranges$", out, re.M)]
    assert len(kib) == 3 and all(8192 <= k < 12000 for k in kib)


def test_self(vm):
    out = vm.good(f"{DIR}/self")
    assert out.startswith(f"using {LOGS[0]}\n") and out.count("the copy is complete") == 10
    first, *others = [int(n) for n in re.findall(r"(\d+) of 4096 KiB copied", out)]
    assert max(others) <= 20 * 4
    # the log may still hold records of these frames, made before they were ours
    assert first >= others[0] // 2


def test_loop(vm):
    """For a process that writes much the log wakes it, for one that does not the clock does."""
    out = vm.good(f"{GREEDY} 2>/dev/null & p=$!; sleep 0.2; (sleep 3; kill $p) & "
                  f"{DIR}/loop $p 1000")
    assert "by the log and the clock" in out and out.count("because of the log") >= 2
    assert out.strip().endswith("ended")
    out = vm.good(f"sleep 4.5 & {DIR}/loop $! 1000")
    # the log may still hold records of these frames, made before they were its own: the first
    # round may be due to them
    rest = re.match(r"using.*\n\d+ ranges.*\n((?:.*\n)*)", out)[1]
    assert rest.count("because of the clock") >= 2 and "because of the log" not in rest
