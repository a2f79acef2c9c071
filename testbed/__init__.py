# SPDX-License-Identifier: GPL-2.0-only
"""The emulated machines: testbed/vm's modules, and what talks to a machine by that command."""

import os
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build")).resolve()
