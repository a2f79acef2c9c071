# SPDX-License-Identifier: GPL-2.0-only
"""The frame of the kernel module tests/guest/watch, and who writes to it."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator

from guest.domain import DOM0
from testbed.client import Machine

MODULE = "/usr/lib/ooh/tests/watch.ko"
PARAMETERS = "/sys/module/watch/parameters"


class Watch:
    """Armed, and judged round by round."""

    def __init__(self, m: Machine) -> None:
        self.m = m
        self.domid = m.dom0("xl domid guest").stdout.strip()
        self.dom0("mkdir -p /tmp/tools; cp mapped logdirty /tmp/tools/",
                  into=[DOM0 / "mapped", DOM0 / "logdirty"])
        m.good(f"rmmod ooh 2>/dev/null; insmod {MODULE}")
        self.frame = int(m.good(f"cat {PARAMETERS}/frame"))
        # nobody writes to it: without that the rest says nothing
        self.round()
        assert self.rounds(2) == [0, 0]

    def dom0(self, script: str, **kw: Any) -> str:
        r = self.m.dom0(script, timeout=120, **kw)
        assert r.returncode == 0, r.stdout + r.stderr
        return str(r.stdout)

    def round(self) -> int:
        return int(self.m.good(f"sleep 0.1; cat {PARAMETERS}/round"))

    def rounds(self, n: int) -> list[int]:
        return [self.round() for _ in range(n)]

    def store(self, n: int) -> None:
        self.m.good(f"echo {n} >{PARAMETERS}/store")

    def area(self, name: str) -> None:
        self.m.good(f"echo {name} >{PARAMETERS}/area")

    def type(self, how: str) -> None:
        self.dom0(f"/tmp/tools/mapped {self.domid} type {self.frame} {how}")

    @contextlib.contextmanager
    def mapped(self, how: str) -> Iterator[Callable[[int], int]]:
        """A mapping in dom0; yields a function that has dom0 write, and returns what is there
        then."""
        # a sleeper holds the input open; its end ends the mapping
        self.dom0("cd /tmp; rm -f in out; mkfifo in; "
                  "setsid sh -c 'sleep 600 >in & echo $! >sleeper; "
                  f"exec tools/mapped {self.domid} {self.frame} {how} <in >out 2>&1' "
                  "</dev/null >/dev/null 2>&1 & "
                  "for i in $(seq 50); do grep -q mapped /tmp/out 2>/dev/null && exit 0; "
                  "sleep 0.1; done; cat /tmp/out >&2; exit 1")

        def write(n: int) -> int:
            return int(self.dom0(f"cd /tmp; echo {n} >in; sleep 0.2; tail -n 1 out"))

        try:
            yield write
        finally:
            self.dom0("kill $(cat /tmp/sleeper); sleep 0.3")

    def settles(self) -> None:
        """Without a writer: what is left from before is reported once, then nothing."""
        self.rounds(2)
        assert self.rounds(2) == [0, 0]
        self.store(7)
        assert self.rounds(2) == [1, 0]

    def end(self) -> None:
        # a failed test may have left it otherwise, and the guest's kernel takes it back
        self.type("rw")
        self.m.good("rmmod watch; insmod /usr/lib/ooh/ooh.ko")
