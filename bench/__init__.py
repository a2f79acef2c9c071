# SPDX-License-Identifier: GPL-2.0-only
"""What tracking costs: the modules of bench/run, bench/report and the other commands here."""
