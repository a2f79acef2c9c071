# SPDX-License-Identifier: GPL-2.0-only
"""bench/report: from a folder's raw.txt to report.html, report.txt and report.csv."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import raw, sections
from bench.goals import goals
from bench.page import Page
from bench.paper import paper
from bench.sensitivity import sensitivity
from bench.series import Measured

# in the order of the page
SECTIONS = (sections.headline, goals, sections.events, sections.phases, paper, sections.shares,
            sections.scaling, sections.programs, sensitivity, sections.table_of_costs,
            sections.believe)


def report(text: str) -> Page:
    measured = Measured(*raw.parse(text))
    page = Page("What tracking costs, by tracker",
                f"{measured.run.mode}. Substrate: {'; '.join(measured.substrates())}")
    for section in SECTIONS:
        section(measured, page)
    return page


def main(about: str | None) -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(about, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    try:
        page = report((folder / "raw.txt").read_text(encoding="utf-8"))
        made = {"report.txt": page.as_text(), "report.csv": page.as_csv(),
                "report.html": page.as_html()}
    except KeyError as e:
        print(f"report: {folder / 'raw.txt'}: a line has no {e}", file=sys.stderr)
        return 1
    except (OSError, UnicodeDecodeError, raw.Bad) as e:
        print(f"report: {folder / 'raw.txt'}: {e}", file=sys.stderr)
        return 1
    except ImportError as e:
        print(f"report: {e} (Debian's python3-matplotlib, for /usr/bin/python3)", file=sys.stderr)
        return 1
    try:
        # all of them or none
        for name, text in made.items():
            (folder / f"{name}.new").write_text(text, encoding="utf-8")
        for name in made:
            (folder / f"{name}.new").rename(folder / name)
    except OSError as e:
        print(f"report: {e}", file=sys.stderr)
        return 1
    print(f"report: {folder}/report.html, report.txt, report.csv", file=sys.stderr)
    return 0
