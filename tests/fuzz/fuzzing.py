#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs spml-fuzz.ko in a guest of a Xen with assertions, beside another domain, destroys
the guest meanwhile, and checks whether Xen has its memory back.

make fuzz [FUZZ="--calls N --seconds N ..."]: the long run.
test_fuzz.py: a short one."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter

from guest.domain import DOM0, destroyed, free_pages, spml_stats
from testbed.client import Machine
from verdict import bad_lines

MODULE = DOM0.parent / "guest/usr/lib/ooh/spml-fuzz.ko"
# what a domain may have above its memory (libxl gives it 1 MiB), less what it has of it
SPARE = 200
# what Xen's own pools take in when a domain uses them for the first time
POOLS = 16

NEIGHBOUR_CFG = """
name = "neighbour"
type = "pvh"
kernel = "/guest/vmlinuz"
ramdisk = "/tmp/neighbour.img"
memory = 128
cpuid = "host,smap=0"
extra = "console=hvc0 earlyprintk=xen,keep tsc=reliable mitigations=off nokaslr printk.devkmsg=on"
"""


class Result:
    """What the module says, summed up over its runs."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()
        self.longest: Counter[str] = Counter()  # microseconds
        self.limits: list[str] = []
        self.messages: list[str] = []

    def take(self, text: str) -> None:
        for line in text.splitlines():
            words = line.split()
            if words[0] == "limit":
                self.limits.append(line)
            elif words[0] == "us":
                self.longest[words[1]] = max(self.longest[words[1]], int(words[4]))
            elif "spml-fuzz:" in line:
                self.messages.append(line)
            else:
                self.numbers[" ".join(words[:-1])] += int(words[-1])

    def table(self) -> str:
        answers: dict[tuple[str, str], int] = {}
        for k, n in self.numbers.items():
            if k.startswith("answer "):
                op, code = k.split()[1:]
                answers[op, code] = n
        ops = list(dict.fromkeys(op for op, _ in answers))
        codes = list(dict.fromkeys(code for _, code in answers))
        rows: list[list[object]] = [["", *ops, "all"]]
        rows += [[code, *(answers.get((op, code), 0) for op in ops),
                  sum(answers.get((op, code), 0) for op in ops)] for code in codes]
        rows.append(["all", *(sum(n for (o, _), n in answers.items() if o == op) for op in ops),
                     sum(answers.values())])
        rows.append(["longest, ms", *(f"{self.longest[op] / 1000:.1f}" for op in ops), ""])
        events = ", ".join(f"{n} {k}" for k, n in self.numbers.items()
                           if not k.startswith("answer ")
                           and k not in ("seed", "vcpus", "threads", "ms"))
        lines = ["".join(f"{c!s:>12}" for c in row) for row in rows]
        return "\n".join([*lines, events])


def run_module(m: Machine, result: Result, timeout: float = 900, **params: int | str) -> None:
    """The module once, from insmod to rmmod."""
    words = " ".join(f"{k}={v}" for k, v in params.items())
    result.take(m.good("rmmod ooh 2>/dev/null; dmesg -c >/dev/null; "
                       f"insmod ./spml-fuzz.ko {words} && cat /proc/spml-fuzz && "
                       "rmmod spml_fuzz && dmesg | sed -n '/spml-fuzz: broken/p'",
                       into=[MODULE], timeout=timeout))


def create(m: Machine) -> None:
    r = m.dom0("xl create /guest/xl.cfg")
    if r.returncode:
        raise RuntimeError(f"the guest does not start: {r.stderr}")


def start_calls(m: Machine, seed: int) -> None:
    """From now on all vCPUs of the guest make calls of Xen."""
    m.good(f"mkdir -p /tmp/m; cp spml-fuzz.ko /tmp/m; rmmod ooh 2>/dev/null; "
           f"insmod /tmp/m/spml-fuzz.ko calls=100000000 seed={seed} >/dev/null 2>&1 & sleep 1.5; "
           "grep -q '^spml_fuzz .*Loading' /proc/modules", into=[MODULE])


def destroy_in_the_midst(m: Machine, seed: int) -> None:
    """Ends the guest while it is in Xen, a device model tracks its video memory in a loop, and a
    PVH dom0 maps pages of it (by a debug key)."""
    start_calls(m, seed)
    r = m.dom0("cp mapped /tmp; D=$(xl domid guest); "
               "setsid /tmp/mapped $D churn 0x8000 512 </dev/null >/tmp/churned 2>&1 & "
               "xl dmesg -c >/dev/null; for i in 1 2 3; do xl debug-keys F; done; "
               "for i in $(seq 100); do xl dmesg | grep -q 'SPML: unmapped' && exit 0; sleep 0.2; "
               "done; xl dmesg | tail -n 3; exit 1", into=[DOM0 / "mapped"])
    if r.returncode:
        raise RuntimeError(f"no page was mapped: {r.stdout}{r.stderr}")
    destroyed(m)
    churned = m.dom0("for i in $(seq 50); do [ -s /tmp/churned ] && break; sleep 0.1; done; "
                     "cat /tmp/churned").stdout
    # how often, and the error that ended it
    if not re.match("[1-9]", churned):
        raise RuntimeError(f"no video memory was tracked: {churned!r}")


def soft_reset(m: Machine) -> dict[str, int]:
    """Takes the guest's kernel for one that starts another. What Xen has of its use of SPML before
    the guest goes on."""
    # xl would start a new domain
    r = m.dom0("for p in /proc/[0-9]*; do "
               "[ \"$(cat $p/comm)\" != xl ] || kill ${p#/proc/}; done; "
               "./softreset $(xl domid guest)", into=[DOM0 / "softreset"], timeout=120)
    if r.returncode:
        raise RuntimeError(f"no soft reset: {r.stderr}")
    seen = spml_stats(m)
    m.dom0("xl unpause guest")
    return seen


def reset_in_the_midst(m: Machine, seed: int) -> dict[str, int]:
    """The same amid calls; then the guest is at its end, too."""
    start_calls(m, seed)
    seen = soft_reset(m)
    destroyed(m)
    return seen


def start_neighbour(m: Machine) -> None:
    r = m.dom0(f"cp neighbour.img /tmp; echo '{NEIGHBOUR_CFG}' >/tmp/neighbour.cfg; "
               "xl create /tmp/neighbour.cfg", into=[DOM0 / "neighbour.img"])
    if r.returncode:
        raise RuntimeError(f"no other domain: {r.stderr}")


def neighbour_round(m: Machine) -> int:
    rounds = re.findall(r"neighbour: round (\d+)", m.log())
    return int(rounds[-1]) if rounds else 0


def neighbour_goes_on(m: Machine, seconds: int = 180) -> bool:
    """Its memory is unchanged, and it still runs and can say so."""
    before = neighbour_round(m)
    for _ in range(seconds):
        # time passes in the machine only as it works
        if m.dom0("xl list neighbour").returncode:
            return False
        if neighbour_round(m) >= before + 2:
            return "neighbour: broken" not in m.log()
        time.sleep(1)
    return False


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", default="debug",
                   help="machine of testbed/configs (default %(default)s)")
    p.add_argument("--calls", type=int, default=1_000_000)
    p.add_argument("--seconds", type=float, default=4 * 3600,
                   help="limit of the time (default %(default)d)")
    p.add_argument("--seed", type=int, default=1,
                   help="of the first run; each further one has the next")
    p.add_argument("--run", type=int, default=50_000,
                   help="calls of one run of the module (default %(default)d)")
    p.add_argument("--lives", type=int, default=2,
                   help="domains that are used up (default %(default)d)")
    args = p.parse_args()

    m, result = Machine(args.config), Result()
    m.down()
    m.up()
    end, seed = time.monotonic() + args.seconds, args.seed
    runs = -(-args.calls // (args.lives * args.run))
    try:
        start_neighbour(m)
        destroyed(m)
        free = [free_pages(m)]
        print(f"free pages of Xen without a guest: {free[0]}", flush=True)
        for life in range(1, args.lives + 1):
            create(m)
            run_module(m, result, mode="limits")
            while (result.numbers["calls"] < args.calls * life / args.lives
                   and time.monotonic() < end):
                told = len(result.messages)
                run_module(m, result, seed=seed, calls=args.run, epoch=5000,
                           grants=SPARE // runs)
                seed += 1
                print(f"life {life}: {result.numbers['calls']} calls, "
                      f"{result.numbers['broken']} promises broken, "
                      f"neighbour in round {neighbour_round(m)}", flush=True)
                if result.messages[told:]:
                    print(*result.messages[told:], sep="\n", flush=True)
            destroy_in_the_midst(m, seed)
            create(m)
            followed = reset_in_the_midst(m, seed)["tracked"]
            if followed:
                raise RuntimeError(f"{followed} frames are followed after a soft reset")
            free.append(free_pages(m))
            print(f"free pages of Xen after life {life}: {free[-1]}", flush=True)
        fine = neighbour_goes_on(m)
        found = bad_lines(m.log())
    finally:
        m.down()
    print(result.table())
    print(*result.messages, *found, sep="\n")
    verdicts = {
        "no promise broken": result.numbers["broken"] == 0,
        "quotas": result.limits and not any("broken" in line for line in result.limits),
        "Xen's log": not found,
        "Xen's memory": abs(free[-1] - free[1]) <= 8 and abs(free[1] - free[0]) <= POOLS,
        "the other domain": fine,
        "all calls made": result.numbers["calls"] >= args.calls,
    }
    for what, ok in verdicts.items():
        print(f"{what}: {'ok' if ok else 'BAD'}")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
