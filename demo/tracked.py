# SPDX-License-Identifier: GPL-2.0-only
"""make demo: what is done in the guest, and the tables of what came of it."""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from testbed import BUILD, TOP, criustats, oohjson
from testbed.client import Machine

START = time.monotonic()

# (heading, how it is read off one row)
COLUMNS = [
    ("tracker", "backend"),
    ("rounds", "rounds"),
    ("changed", "changed"),
    ("reported", "reported"),
    ("missed", "missed"),
    ("extra", "extra"),
    ("extra/mapped", "extra_share"),
    ("VM exits", "exits"),
    ("log full", "full"),
    ("log records", "records"),
    ("collect, kinstr", "collect"),
]
# what nobody can say of the oracle alone
JUDGED = ("reported", "missed", "extra", "extra_share", "collect")


def stage(text: str) -> None:
    t = int(time.monotonic() - START)
    print(f"[{t // 60:2d}:{t % 60:02d}] {text}", flush=True)


def row(out: Path, backend: str) -> dict[str, Any]:
    """Of what ooh verify found, and of the emulator's counters meanwhile."""
    verify = oohjson.verified((out / f"{backend}.json").read_text())
    events = json.loads((out / f"{backend}.events").read_text())
    total, rounds = verify["total"], verify["rounds"]
    mapped = sum(r["mapped"] for r in rounds)
    return {
        "backend": backend,
        "rounds": len(rounds),
        "changed": total["changed"],
        "reported": total["reported"],
        "missed": total["missed"],
        "extra": total["extra"],
        "extra_share": f"{100 * total['extra'] / mapped:.2f} %" if mapped else "-",
        "exits": events["vm_exits"],
        "full": events["pml_full_exits"] + events["epml_full_exits"],
        "records": events["epml_records" if backend == "epml" else "pml_records"],
        "all_dirty": [r["reason"] for r in rounds if r.get("all_dirty")],
        "collect": sum(r.get("collect_ticks", 0) for r in rounds) // max(1, len(rounds)) // 1000,
    }


def print_rows(rows: list[dict[str, Any]]) -> None:
    print_cells([[h for h, _ in COLUMNS],
                 *([str(r[k]) if r["backend"] != "none" or k not in JUDGED else "-"
                    for _, k in COLUMNS] for r in rows)])


def print_cells(cells: list[list[str]]) -> None:
    width = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for n, c in enumerate(cells):
        print("  ".join(x.rjust(w) if i else x.ljust(w) for i, (x, w) in enumerate(zip(c, width))))
        if n == 0:
            print("  ".join("-" * w for w in width))


def from_guest(a: argparse.Namespace, script: str, arguments: str, out: Path) -> int:
    """Runs a script of this folder in the guest; its status, and its folder is in `out`."""
    command = (f"MIN_BYTES={a.min_bytes} ./{script} out {arguments}; s=$?; rm -f out/*.rdb; "
               "(exit $s)")
    try:
        return Machine(a.config).folder(command, out, into=[TOP / "demo" / script], timeout=1800)
    except tarfile.ReadError as e:
        sys.exit(f"demo: FAILED: nothing came back from the guest ({e})")


def hardware(machine: Machine) -> dict[str, str]:
    """The trackers by a log of the processor's that the guest has, best first, with how each
    works."""
    usable = oohjson.usable(machine.good("/usr/lib/ooh/reload >/dev/null; ooh backends --json"))
    logs = {name: how for name, how in usable.items() if name in ("epml", "spml")}
    if not logs:
        sys.exit("demo: FAILED: no hardware tracker is usable")
    return logs


def checkpoint(a: argparse.Namespace, backends: list[str], out: Path) -> None:
    """The last step, by each hardware tracker that the guest has: the second dumps what the first
    restored."""
    rows = [["tracker", "dump", "frozen, ms", "scan and reset, ms", "pages written", "skipped"]]
    stage("redis-server pre-dumped three times under load, dumped, killed, restored, compared: "
          f"{', then '.join(backends)}")
    if from_guest(a, "redis-checkpoint", f"{a.keys} 3 {a.rate} {' '.join(backends)}", out):
        sys.exit("demo: FAILED to checkpoint and restore")
    stage("done")
    for b in backends:
        for n in ("1", "2", "3", "dump"):
            s = criustats.read(out / "out" / b / f"{n}.stats")
            rows.append([b, "dump" if n == "dump" else f"pre-dump {n}",
                         f"{s['frozen_us'] / 1000:.1f}", f"{s['memdump_us'] / 1000:.1f}",
                         str(s["written"]), str(s["skipped"])])
    print()
    print_cells(rows)
    print("\nBy the emulated clock. The first pre-dump writes everything; each next one what "
          "changed.")
    print("Every key and value was what the server had acknowledged, and it goes on serving.")


def arguments_of(about: str | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=about)
    p.add_argument("--keys", type=int, default=90000, help="keys of 1 KiB (default %(default)s)")
    p.add_argument("--rounds", type=int, default=10, help="rounds for each tracker")
    p.add_argument("--interval", type=int, default=100, metavar="MS",
                   help="between rounds, guest time")
    p.add_argument("--min-bytes", type=int, default=100_000_000,
                   help="the data set is at least this")
    p.add_argument("--config", default="default", help="machine (testbed/configs)")
    p.add_argument("--trackers", metavar="LIST",
                   help="default: none, those of epml and spml that the guest has, and the "
                   "kernel's")
    p.add_argument("--rate", type=int, default=1000,
                   help="changes a second while CRIU dumps (default %(default)s)")
    p.add_argument("--checkpoint", metavar="LIST",
                   help="of the last step; default: those the guest has of epml, spml")
    return p.parse_args()


def main(about: str | None) -> int:
    a = arguments_of(about)
    stage(f"starting the machine {a.config}: Bochs, the hypervisor, the guest")
    machine = Machine(a.config)
    machine.start("demo")
    logs = hardware(machine)
    for name, how in logs.items():
        stage(f"{name}: {how}")
    trackers = (a.trackers.split(",") if a.trackers else
                ["none", *logs, "pagemap-scan", "uffd-wp", "soft-dirty"])
    stage("redis-server in the guest, filled by redis-benchmark, then verified under load")
    out = BUILD / "demo"
    status = from_guest(a, "redis-under-load",
                        f"{a.keys} {a.rounds} {a.interval} {' '.join(trackers)}", out)
    stage("done")

    found = {p.stem for p in (out / "out").glob("*.json") if p.stat().st_size}
    rows = [row(out / "out", b) for b in trackers if b in found]
    print()
    if not rows:
        sys.exit(f"demo: FAILED (status {status}, no tracker got through)")
    print_rows(rows)
    print("\nPages of 4 KiB, all rounds together. Events are the emulator's counters over the "
          "whole run of")
    print('"ooh verify", the oracle included: row "none" is the oracle without a tracker.')
    print("VM exits come with time as well (timer, interrupts); those of a full log do not.")
    for r in rows:
        if r["all_dirty"]:
            print(f"{r['backend']}: {len(r['all_dirty'])} rounds had to report everything: "
                  f"{r['all_dirty'][0]}")
    missed = sum(r["missed"] for r in rows if r["backend"] != "none")
    if missed or status or len(rows) != len(trackers):
        sys.exit(f"demo: FAILED ({missed} pages missed, status {status}, "
                 f"{len(rows)} of {len(trackers)} trackers)")
    print("Nothing was missed.\n")
    checkpoint(a, a.checkpoint.split(",") if a.checkpoint else list(logs),
               out.with_name("demo-criu"))
    return 0
