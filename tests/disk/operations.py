# SPDX-License-Identifier: GPL-2.0-only
"""Random operations on a chain of qcow2 files that is in use, against a flat copy.

Each write has contents of its own, so an index that leads to a wrong file shows wrong bytes. All of
the disk is compared after each operation that changes the chain, and now and then between."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any, Iterable, Sequence

import daemon
import images

GRAIN = 512
# files of one chain that differ in what an index has to leave to them
MIXED = ("cluster_size=4k", "cluster_size=512", "cluster_size=64k",
         "cluster_size=16k,extended_l2=on", "cluster_size=2M", "compat=0.10")
KINDS = {"write": 400, "zero": 60, "discard": 60, "read": 250, "flush": 20, "snapshot": 30,
         "commit": 6, "active commit": 3, "stream": 5, "resize": 4, "reopen": 6, "restart": 4,
         "kill": 5, "offline": 4, "base": 4}
ON_DATA = ("write", "zero", "discard", "read", "flush")


class Mismatch(Exception):
    pass


class Disk:
    """A chain that begins with FILES files. OTHERS: tools of another build, for what happens while
    the disk isn't in use. QUIET: that many times fewer operations change the chain."""

    def __init__(self, tools: Path, folder: Path, seed: int,
                 options: Sequence[str] = ("cluster_size=4k",), size: int = 4 << 20,
                 index: Sequence[str] = ("on", "auto", "off"), files: int = 1, longest: int = 40,
                 others: Path | None = None, quiet: int = 1) -> None:
        self.tools, self.folder, self.rng = tools, folder, random.Random(seed)
        self.others = [tools] + ([others] if others else [])
        self.options, self.index, self.longest = options, index, longest
        self.flat = bytearray(size)
        self.older: dict[int, set[bytes]] = {}
        self.number = self.serial = 0
        self.done = dict.fromkeys(KINDS, 0)
        self.weights = [n * (quiet if kind in ON_DATA else 1) for kind, n in KINDS.items()]
        self.chain: list[int] = []
        self.leaky: set[int] = set()
        for _ in range(files - 1):
            self.made_file(size)
        self.new_file(size)
        self.begin()

    def path(self, n: int) -> Path:
        return self.folder / f"{n}.qcow2"

    def img(self, *args: object, tools: Path | None = None) -> str:
        r = subprocess.run([(tools or self.tools) / "qemu-img", *map(str, args)],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=300)
        if r.returncode:
            raise RuntimeError(f"qemu-img {args}: {r.stdout[-2000:]}")
        return r.stdout

    def data(self, length: int) -> bytes:
        out = b""
        for _ in range(length // GRAIN):
            self.serial += 1
            out += struct.pack(">Q", self.serial) * (GRAIN // 8)
        return out

    def made_file(self, size: int) -> None:
        """One with some clusters of 4 KiB, written without QEMU. Now and then it is shorter than
        what is below."""
        size -= self.rng.choice([0, 0, 0, 1, 9, 200]) * GRAIN if self.chain else 0
        clusters = {g: self.data(4096) for g in self.rng.sample(range(size // 4096), 20)}
        for g, data in clusters.items():
            self.flat[g * 4096:(g + 1) * 4096] = data
        self.flat[size:] = bytes(len(self.flat) - size)
        images.write_image(self.path(self.number), size, clusters,
                           self.path(self.chain[-1]) if self.chain else None, 12)
        self.chain.append(self.number)
        self.number += 1

    def new_file(self, size: int) -> None:
        backing = ["-F", "qcow2", "-b", self.path(self.chain[-1]), "-u"] if self.chain else []
        self.img("create", "-q", "-f", "qcow2", *backing, "-o", self.rng.choice(self.options),
                 self.path(self.number), size)
        self.chain.append(self.number)
        self.number += 1

    def blockdev(self, i: int, backing: bool = True) -> dict[str, Any]:
        n = self.chain[i]
        top = i == len(self.chain) - 1
        b = {"driver": "qcow2", "node-name": f"n{n}", "read-only": not top, "discard": "unmap",
             "file": {"driver": "file", "filename": str(self.path(n)), "cache": {"no-flush": True}}}
        if self.index:
            b["chain-index"] = self.rng.choice(self.index)
        b["backing"] = f"n{self.chain[i - 1]}" if i and backing else None
        return b

    def begin(self) -> None:
        self.d = daemon.Daemon(self.tools, self.folder,
                               [self.blockdev(i) for i in range(len(self.chain))],
                               f"n{self.chain[-1]}")

    def compare(self, why: str) -> None:
        got = self.d.nbd.read(0, len(self.flat))
        if got != self.flat:
            at = next(i for i in range(0, len(got), GRAIN)
                      if got[i:i + GRAIN] != self.flat[i:i + GRAIN])
            raise Mismatch(f"after {why}, operation {sum(self.done.values())}, chain {self.chain}: "
                           f"at {at} is {got[at:at + 8].hex()}, should be "
                           f"{self.flat[at:at + 8].hex()}")

    def change(self, at: int, data: bytes) -> None:
        for i in range(0, len(data), GRAIN):
            self.older.setdefault(at + i, set()).add(bytes(self.flat[at + i:at + i + GRAIN]))
        self.flat[at:at + len(data)] = data

    def after_kill(self) -> None:
        """What wasn't flushed may be there, or what was there before."""
        got = self.d.nbd.read(0, len(self.flat))
        for at in range(0, len(got), GRAIN):
            is_ = got[at:at + GRAIN]
            if is_ != self.flat[at:at + GRAIN] and is_ not in self.older.get(at, ()):
                raise Mismatch(f"after kill, operation {sum(self.done.values())}: at {at} is "
                               f"{is_[:8].hex()}, which it never was since the last flush")
        self.flat[:] = got
        self.older.clear()

    def grow(self, size: int) -> None:
        if size > len(self.flat):
            self.flat += bytes(size - len(self.flat))
            self.d.export_again(f"n{self.chain[-1]}")

    def settle(self, i: int) -> None:
        """A job leaves the file that it wrote to writable, if it was not the first one that did so,
        and not flushed."""
        if i < len(self.chain) - 1:
            self.d.qmp("blockdev-reopen", options=[self.blockdev(i)])

    def drop(self, numbers: Iterable[int]) -> None:
        """Files that a job has made superfluous. What it wrote in their place isn't flushed yet."""
        self.d.nbd.flush()
        self.older.clear()
        for n in numbers:
            self.d.qmp("blockdev-del", node_name=f"n{n}")
            self.path(n).unlink()

    def do(self, kind: str) -> bool:
        rng = self.rng
        at = rng.randrange(len(self.flat) // GRAIN) * GRAIN
        n = min(rng.choice([1, 1, 2, 8, 16, 40, 200]) * GRAIN, len(self.flat) - at)
        if kind == "write":
            data = self.data(n)
            self.change(at, data)
            self.d.nbd.write(at, data)
        elif kind in ("zero", "discard"):
            self.change(at, bytes(n))
            self.d.nbd.zero(at, n, kind == "discard")
        elif kind == "read":
            if self.d.nbd.read(at, n) != self.flat[at:at + n]:
                self.compare(kind)
        elif kind == "flush":
            self.d.nbd.flush()
            self.older.clear()
        elif kind == "snapshot":
            if len(self.chain) >= self.longest:
                return False
            size = len(self.flat) + rng.choice([0, 0, 0, 0, 3, 64]) * GRAIN
            self.new_file(size)
            self.d.qmp("blockdev-add", **self.blockdev(len(self.chain) - 1, backing=False))
            self.d.qmp("blockdev-snapshot", node=f"n{self.chain[-2]}", overlay=f"n{self.chain[-1]}")
            self.grow(size)
        elif kind == "commit":
            if len(self.chain) < 4:
                return False
            base = rng.randrange(len(self.chain) - 2)
            top = rng.randrange(base + 1, min(base + 6, len(self.chain) - 1))
            self.d.job("block-commit", device=f"n{self.chain[-1]}",
                       base_node=f"n{self.chain[base]}", top_node=f"n{self.chain[top]}")
            gone = self.chain[base + 1:top + 1]
            del self.chain[base + 1:top + 1]
            self.settle(base)
            self.drop(reversed(gone))
        elif kind == "active commit":
            if len(self.chain) < 2:
                return False
            base = max(0, len(self.chain) - 1 - rng.randrange(1, 5))
            self.d.job("block-commit", device=f"n{self.chain[-1]}",
                       base_node=f"n{self.chain[base]}")
            gone = self.chain[base + 1:]
            del self.chain[base + 1:]
            self.drop(reversed(gone))
        elif kind == "stream":
            if len(self.chain) < 3:
                return False
            base = rng.randrange(len(self.chain) - 2)
            top = rng.randrange(base + 2, min(base + 6, len(self.chain)))
            self.d.job("block-stream", device=f"n{self.chain[top]}",
                       base_node=f"n{self.chain[base]}")
            gone = self.chain[base + 1:top]
            del self.chain[base + 1:top]
            self.settle(base + 1)
            self.drop(reversed(gone))
        elif kind == "resize":
            size = len(self.flat) + rng.choice([1, 5, 64]) * GRAIN
            self.flat += bytes(size - len(self.flat))
            self.d.export_again(f"n{self.chain[-1]}", size)
        elif kind == "reopen":
            if not self.index:
                return False
            b = self.blockdev(len(self.chain) - 1)
            self.d.qmp("blockdev-reopen", options=[b])
        elif kind == "restart":
            self.d.quit()
            if self.d.status:
                raise Mismatch(f"the daemon ended with {self.d.status}")
            self.begin()
        elif kind == "kill":
            self.d.kill()
            # a cluster is counted before a table leads to it: what a kill may leave is a leak
            self.leaky.add(self.chain[-1])
            if rng.randrange(2):
                self.img("check", "-q", "-r", "leaks", self.path(self.chain[-1]))
                self.leaky.remove(self.chain[-1])
            self.begin()
            self.after_kill()
        elif kind == "base":
            return self.base_changes()
        elif kind == "offline":
            self.d.quit()
            tools = rng.choice(self.others)
            overlay = self.path(self.chain[-1])
            if len(self.chain) < 3:
                pass
            elif rng.randrange(2):
                self.img("commit", "-q", overlay, tools=tools)
            else:
                keep = rng.randrange(max(0, len(self.chain) - 4), len(self.chain) - 1)
                self.img("rebase", "-q", "-F", "qcow2", "-b", self.path(self.chain[keep]), overlay,
                         tools=tools)
                del self.chain[keep + 1:-1]
            self.begin()
        return True

    def base_changes(self) -> bool:
        """The base isn't part of the disk for a while, and is written to meanwhile. The daemon has
        the same nodes in the same places afterwards. Only a walk can tell where the disk shows the
        base."""
        if len(self.chain) < 3:
            return False
        base, above, top = self.blockdev(0), self.blockdev(1), self.blockdev(len(self.chain) - 1)
        self.compare("base")  # an index, if there is one, is complete now
        self.d.qmp("blockdev-reopen",
                   options=[{**above, "backing": None}, {**base, "read-only": False}])
        self.d.qmp("block-export-add", type="nbd", id="b", node_name=base["node-name"], name="b",
                   writable=True)
        new: dict[int, bytes]
        nbd, new = daemon.Nbd(self.d.nbd_path, "b"), {}
        for at in self.rng.sample(range(0, nbd.size // GRAIN * GRAIN, GRAIN), 40):
            new[at] = self.data(GRAIN)
            nbd.write(at, new[at])
        nbd.close()
        self.d.end_export("b")
        self.d.qmp("blockdev-reopen", options=[base, above])
        got = self.d.nbd.read(0, len(self.flat))
        if self.index:
            self.d.qmp("blockdev-reopen", options=[{**top, "chain-index": "off"}])
        for at, data in new.items():
            if self.d.nbd.read(at, GRAIN) == data:
                self.flat[at:at + GRAIN] = data
                self.older.pop(at, None)
        self.compare("base")
        if got != self.flat:
            raise Mismatch(f"operation {sum(self.done.values())}: the base has changed, and the "
                           "disk isn't what a walk says")
        if self.index:
            self.d.qmp("blockdev-reopen", options=[top])
        return True

    def step(self) -> None:
        kind = self.rng.choices(list(KINDS), self.weights)[0]
        if self.do(kind):
            self.done[kind] += 1
            if kind not in ON_DATA or not sum(self.done.values()) % 100:
                self.compare(kind)

    def end(self) -> None:
        self.compare("all")
        self.d.quit()
        for n in self.chain:
            repair = ["-r", "leaks"] if n in self.leaky else []
            self.img("check", "-q", *repair, self.path(n))
        shutil.rmtree(self.folder)
