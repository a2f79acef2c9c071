# SPDX-License-Identifier: GPL-2.0-only
"""What a test expects of ooh verify."""

from __future__ import annotations

from subprocess import CompletedProcess

from testbed import oohjson
from testbed.oohjson import Verified


def verified(r: CompletedProcess[str], status: int = 0) -> Verified:
    """It has ended like that (1: pages were missed)."""
    assert r.returncode == status, f"status {r.returncode}: {r.stdout[-2000:]}{r.stderr}"
    return oohjson.verified(r.stdout)


def sound(r: CompletedProcess[str]) -> Verified:
    """Pages changed, and none was missed."""
    doc = verified(r)
    assert doc["total"]["missed"] == 0 < doc["total"]["changed"]
    return doc
