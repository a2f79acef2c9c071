# SPDX-License-Identifier: GPL-2.0-only
"""CRIU's stats-dump images, read without CRIU's own library."""

from __future__ import annotations

import struct
from pathlib import Path

# of one dump: times in microseconds, the rest in pages
Stats = dict[str, int]
FIELDS = {1: "freezing_us", 2: "frozen_us", 3: "memdump_us", 4: "memwrite_us",
          5: "scanned", 6: "skipped", 7: "written"}


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def read(path: Path) -> Stats:
    data = path.read_bytes()
    # two words of magic, the length, then the message; its field 1 is that of a dump
    (length,) = struct.unpack_from("<I", data, 8)
    entry = data[12:12 + length]
    tag, at = varint(entry, 0)
    if tag != (1 << 3 | 2):
        raise ValueError(f"{path}: no statistics of a dump")
    size, at = varint(entry, at)
    end, found = at + size, dict.fromkeys(FIELDS.values(), 0)
    while at < end:
        tag, at = varint(entry, at)
        if tag & 7 != 0:
            raise ValueError(f"{path}: field {tag >> 3} is not a number")
        value, at = varint(entry, at)
        if tag >> 3 in FIELDS:
            found[FIELDS[tag >> 3]] = value
    return found
