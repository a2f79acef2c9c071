#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""make soak-disk: a million random operations on chains in use, each judged by a flat copy; a new
disk, with other kinds of files, every few thousand. Stock QEMU works on the disk between, if it is
built (testbed/build sqemu plain)."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import operations

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build"))
OPTIONS = [("cluster_size=4k",), ("cluster_size=64k",), ("cluster_size=2M",),
           ("cluster_size=16k,extended_l2=on",),
           operations.MIXED]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ops", type=int, default=1000000, help="(%(default)s)")
    p.add_argument("--seconds", type=int, help="stop then, whatever was done")
    p.add_argument("--each", type=int, default=5000, help="operations on a disk (%(default)s)")
    p.add_argument("--seed", type=int, default=1, help="the first one (%(default)s)")
    p.add_argument("--tools", type=Path, default=BUILD / "sqemu/usr/bin", help="(%(default)s)")
    a = p.parse_args()
    stock = BUILD / "testbed/sqemu-plain/dist/usr/bin"
    began, ops, seed = time.monotonic(), 0, a.seed
    total = dict.fromkeys(operations.KINDS, 0)
    while ops < a.ops and not (a.seconds and time.monotonic() - began > a.seconds):
        folder = Path(tempfile.mkdtemp(prefix="soak-disk-"))
        options = OPTIONS[seed % len(OPTIONS)]
        disk = None
        try:
            disk = operations.Disk(a.tools, folder, seed, options=options, files=15,
                                   quiet=1 + seed % 3 * 4,
                                   index=[("on",), ("auto",), ("on", "auto", "off")][seed % 3],
                                   others=stock if (stock / "qemu-img").exists() else None)
            for _ in range(min(a.each, a.ops - ops)):
                disk.step()
            disk.end()
        except BaseException as e:
            if disk and disk.d.p.poll() is None:
                disk.d.kill()
            sys.exit(f"soak-disk: seed {seed}: {type(e).__name__}: {e}; files are in {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        for kind, n in disk.done.items():
            total[kind] += n
        ops = sum(total.values())
        print(f"soak-disk: seed {seed} good, {ops} operations, {time.monotonic() - began:.0f} s",
              flush=True)
        seed += 1
    print(f"soak-disk: {ops} operations, 0 wrong bytes: "
          + ", ".join(f"{n} {kind}" for kind, n in total.items()))


if __name__ == "__main__":
    main()
