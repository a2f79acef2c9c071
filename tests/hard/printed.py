# SPDX-License-Identifier: GPL-2.0-only
"""What the generator prints at its end (main.c): places of its memory, a line for each kind of
operation, and one for the whole."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

PAGE = 4096


class Place(NamedTuple):
    name: str
    start: int
    size: int


class Printed:
    def __init__(self, text: str) -> None:
        self.places: list[Place] = []
        self.kinds: dict[str, Counter[str]] = {}  # how often it was "tried", "done" and so on
        self.errors: dict[str, str] = {}  # of a kind's last refusal
        self.ops, self.digest = 0, ""
        for line in text.strip().splitlines():
            what, *words = line.split()
            if what == "place":
                name, start, pages = words
                self.places.append(Place(name, int(start, 16), int(pages) * PAGE))
            elif what == "kind":
                name, *pairs = words
                error = pairs.index("error")
                self.kinds[name] = Counter({k: int(v) for k, v in
                                            zip(pairs[:error:2], pairs[1:error:2])})
                self.errors[name] = " ".join(pairs[error + 1:])
            elif what == "seed":
                self.ops = int(words[words.index("ops") + 1])
                self.digest = words[-1]

    def place_of(self, address: int) -> str | None:
        return next((p.name for p in self.places if p.start <= address < p.start + p.size), None)
