# SPDX-License-Identifier: GPL-2.0-only
"""The emulated machines: testbed/vm's modules, and what talks to a machine by that command."""
