# SPDX-License-Identifier: GPL-2.0-only
"""What the command ooh prints with --json."""

from __future__ import annotations

import json
from typing import Any, TypedDict


class Backend(TypedDict):
    """Of `ooh backends`; there is more in it."""

    name: str
    usable: bool
    reason: str  # how it works, or why it does not


def backends(text: str) -> dict[str, Backend]:
    """Of `ooh backends`, by name; the best comes first."""
    return {b["name"]: b for b in json.loads(text)}


def usable(text: str) -> dict[str, str]:
    """Of these the usable ones, with how each works."""
    return {b["name"]: b["reason"] for b in backends(text).values() if b["usable"]}


class Round(TypedDict, total=False):
    """Of `ooh verify`. Pages, but for the last three."""

    mapped: int
    changed: int
    reported: int
    missed: int
    extra: int
    all_dirty: bool
    reason: str  # why everything is reported
    collect_ticks: int


class Total(TypedDict):
    changed: int
    reported: int
    missed: int
    extra: int
    all_dirty: int  # rounds


class MissedPage(TypedDict):
    address: str
    mapping: str


class Verified(TypedDict):
    """Of `ooh verify`; there is more in it."""

    backend: str
    rounds: list[Round]
    total: Total
    missed_pages: list[MissedPage]


def verified(text: str) -> Verified:
    doc: Verified = json.loads(text)
    return doc


def rounds(text: str) -> list[Any]:
    """Of `ooh record` and `ooh top`: a line for each round."""
    return [json.loads(line) for line in text.splitlines()]
