# SPDX-License-Identifier: GPL-2.0-only
"""What Xen and its tools say of the guest's domain, and its end."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from testbed.client import Machine

# programs for dom0: tests/dom0
DOM0 = Path(os.environ["OOH_BUILD"]) / "dom0"


def free_pages(m: Machine) -> int:
    """Free pages of Xen's heap, from its own debug key: exact, unlike xl info."""
    out = m.dom0("xl dmesg -c >/dev/null; xl debug-keys H; sleep 1; xl dmesg").stdout
    return sum(int(n) for n in re.findall(r"heap\[node=\d+\]\[zone=\d+\] -> (\d+) pages", out))


def destroyed(m: Machine) -> None:
    m.dom0("xl destroy guest")
    for _ in range(60):
        if "guest" not in m.dom0("xl list").stdout:
            return
        time.sleep(1)
    raise RuntimeError("the domain does not die:\n" + m.dom0("xl list").stdout)


def spml_stats(m: Machine) -> dict[str, int]:
    """Of its use of SPML, by the domctl."""
    r = m.dom0("./spmlstats $(xl domid guest)", into=[DOM0 / "spmlstats"])
    assert r.returncode == 0, r.stderr
    return {name: int(value) for name, value in map(str.split, r.stdout.splitlines())}
