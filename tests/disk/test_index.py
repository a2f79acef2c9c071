# SPDX-License-Identifier: GPL-2.0-only
"""The index of backing files (chain-index): random operations on a chain that is in use, against a
flat copy."""

import os
from pathlib import Path

import operations
import pytest
from conftest import long

TOP = Path(__file__).resolve().parent.parent.parent
BIN = Path(os.environ.get("OOH_BUILD", TOP / "build")) / "sqemu/usr/bin"

SMALL = ("cluster_size=4k",)


@pytest.mark.parametrize("seed, options, index", [
    (1, SMALL, ("on", "auto", "off")),
    (2, operations.MIXED, ("on", "auto")),
    long(3, SMALL, ("on",)),
    long(4, operations.MIXED, ("on", "off")),
    long(5, SMALL, None),
], ids=["small", "mixed", "small-on", "mixed-on-off", "small-without"])
def test_random_operations_on_a_disk_in_use(tmp_path, seed, options, index):
    disk = operations.Disk(BIN, tmp_path, seed, options=options, index=index, files=15, quiet=10)
    for _ in range(5000):
        disk.step()
    disk.end()
    # nine in a thousand operations change the chain
    changes = {kind: n for kind, n in disk.done.items() if kind not in operations.ON_DATA}
    assert sum(changes.values()) > 20 and changes["snapshot"] > 5, disk.done
