# SPDX-License-Identifier: GPL-2.0-only
"""For the tests of ooh checkpoint: a criu that only pretends, and images of memory that are made
up."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import re
import signal
import struct
import subprocess
from pathlib import Path
from typing import Iterator, Mapping, Sequence

from hostlib import ooh

# A criu that writes a file, or ends as FAIL says; "restore" tells from which folder.
PRETENDER = """#!/bin/sh
case $1 in
check) exit ${CHECK:-0} ;;
restore)
    pwd -P >"$WHERE"
    echo "$@" >"$WHERE.arguments"
    [ -z "$COPY" ] || cp -r .. "$COPY"
    [ -z "$HANG" ] || { setsid sh -c 'echo $$ >"$HANG"; exec sleep 1000' & sleep 1000; }
    [ -z "$SAYS" ] || { echo "$SAYS"; exit 1; }
    while [ $# -gt 0 ]; do [ "$1" != --pidfile ] || echo 4711 >"$2"; shift; done
    exit 0 ;;
esac
echo "$@" >arguments.img
[ -z "$SLOW" ] || sleep 30
case $(pwd) in *${FAIL:-nothing}) echo "Error (pretender): no"; exit 1 ;; esac
if [ -n "$IMAGES" ]; then cp "$IMAGES/$(basename "$PWD")"/* .; else echo image >pages-1.img; fi
while [ $# -gt 0 ]; do [ "$1" != --prev-images-dir ] || ln -s "$2" parent; shift; done
"""


def pretended(folder: Path) -> dict[str, str]:
    """The environment in which it is criu."""
    criu = folder / "criu"
    criu.write_text(PRETENDER)
    criu.chmod(0o755)
    return {**os.environ, "OOH_CRIU": str(criu), "WHERE": str(folder / "where")}


def checkpoint(d: Path, env: Mapping[str, str], *args: object, status: int = 0,
               rounds: int | None = 5, cmd: Sequence[object] = ("--", "sleep", "60"),
               ) -> subprocess.CompletedProcess[str]:
    r = ooh("checkpoint", "-e", "0.05", *(["-n", rounds] if rounds else []), *args, d, *cmd,
            env=env)
    for pid in re.findall(r"^process (\d+)$", r.stdout, re.M):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    assert r.returncode == status, r.stdout + r.stderr
    return r


def present(d: Path) -> list[int]:
    return sorted(int(p.name) for p in d.iterdir() if p.name.isdigit())


def restored(d: Path, env: Mapping[str, str], tmp_path: Path) -> int:
    r = ooh("restore", d, env=env)
    assert r.returncode == 0, r.stderr
    return int((tmp_path / "where").read_text().strip().rsplit("/", 1)[1])


def manage(*args: object, status: int = 0,
           env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    r = ooh("checkpoint", *args, env=env)
    assert r.returncode == status, r.stdout + r.stderr
    return r


def varint(n: int) -> bytes:
    out = b""
    while n > 0x7f:
        out, n = out + bytes([n & 0x7f | 0x80]), n >> 7
    return out + bytes([n])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """Of a protocol buffer; (number, value)."""
    return b"".join(varint(f << 3) + varint(v) if isinstance(v, int) else
                    varint(f << 3 | 2) + varint(len(v)) + v for f, v in fields)


def image(magic: int, *records: bytes) -> bytes:
    return struct.pack("<II", 0x54564319, magic) + b"".join(struct.pack("<I", len(r)) + r
                                                            for r in records)


PARENT, LAZY, PRESENT = 1, 2, 4
PAGE = 4096


class Memory:
    """Some pages that change, and CRIU's images of them."""

    pages: dict[int, tuple[int, int]]
    known: dict[int, tuple[int, int]]

    def __init__(self, seed: int) -> None:
        self.random, self.pages, self.known, self.round = random.Random(seed), {}, {}, 0

    def change(self) -> None:
        self.round += 1
        for _ in range(60):
            n = self.random.randrange(300)
            if self.random.random() < 0.2:
                self.pages.pop(n, None)
            else:
                self.pages[n] = (self.round, n)

    @staticmethod
    def content(page: tuple[int, int]) -> bytes:
        return struct.pack("<II", *page) * (PAGE // 8)

    def entries(self) -> list[tuple[int, int, int]]:
        """(page, count, flags): neighbours of a kind together, but not always."""
        out: list[tuple[int, int, int]] = []
        for n in sorted(self.pages):
            flags = PARENT if self.known.get(n) == self.pages[n] else PRESENT
            flags |= LAZY if n > 200 else 0
            last = out[-1] if out else (0, 0, None)
            if last[0] + last[1] == n and last[2] == flags and self.random.random() < 0.9:
                out[-1] = (last[0], last[1] + 1, flags)
            else:
                out.append((n, 1, flags))
        return out

    def dump(self, folder: Path, whole: bool) -> dict[int, tuple[int, int]]:
        """The images, and what was in memory."""
        folder.mkdir(parents=True)
        if whole:
            self.known = {}
        entries = self.entries()
        records = [message((1, 0x7f0000000000 + n * PAGE), (2, count), (4, flags), (5, count))
                   for n, count, flags in entries]
        (folder / "pagemap-7.img").write_bytes(image(0x56084025, message((1, 3)), *records))
        here = [n + i for n, count, flags in entries if flags & PRESENT for i in range(count)]
        (folder / "pages-3.img").write_bytes(b"".join(self.content(self.pages[n]) for n in here))
        (folder / "core-7.img").write_bytes(
            image(0x55053847, message((1, 1), (3, message((1, 1), (6, b"victim"))))))
        (folder / "pstree.img").write_bytes(
            image(0x50273030, message((1, 7), (2, 0)), message((1, 9), (2, 7))))
        self.known = dict(self.pages)
        return dict(self.pages)


def fields(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0

    def number() -> int:
        nonlocal at
        n = shift = 0
        while True:
            n |= (data[at] & 0x7f) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 0x80:
                return n

    while at < len(data):
        yield number() >> 3, number()


def read_pagemap(folder: Path) -> tuple[int, list[dict[int, int]]]:
    records: list[dict[int, int]]
    data, at, records = (folder / "pagemap-7.img").read_bytes(), 8, []
    while at < len(data):
        size, = struct.unpack_from("<I", data, at)
        records.append(dict(fields(data[at + 4:at + 4 + size])))
        at += 4 + size
    return records[0][1], records[1:]


def memory_of(folder: Path) -> dict[int, bytes]:
    """What a restore would bring back: page -> content."""
    out: dict[int, bytes]
    number, entries = read_pagemap(folder)
    file, at, out = folder / f"pages-{number}.img", 0, {}
    packed = Path(f"{file}.gz")
    pages = file.read_bytes() if file.exists() else gzip.decompress(packed.read_bytes())
    before = None
    for e in entries:
        first, count, flags = (e[1] - 0x7f0000000000) // PAGE, e[5], e[4]
        for n in range(first, first + count):
            if flags & PARENT:
                before = before or memory_of((folder / os.readlink(folder / "parent")).resolve())
                out[n] = before[n]
            else:
                out[n], at = pages[at:at + PAGE], at + PAGE
    assert at == len(pages)
    return out
