# SPDX-License-Identifier: GPL-2.0-only
"""A page of titles, paragraphs, tables and figures, as text and HTML; and its figures as CSV."""

from __future__ import annotations

import csv
import html
import io
import re
import textwrap
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Sequence

from bench.series import Key, Series, Spread

# what is drawn on matplotlib's pyplot, and the figure that it becomes: Debian has no types of it
Plot = Any
Draw = Callable[[Plot], Plot]

CSV_HEADS = ["section", "program", "tracker", "MiB", "permille", "processes", "interval_ms",
             "cpus", "guests", "costs_percent", "costs_event", "substrate", "metric", "unit",
             "runs", "min", "median", "max"]

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto;
       padding: 0 1.5em; color: #222; }
h1 { font-size: 1.7em; }
h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ddd; }
p { max-width: 60em; }
.note, figcaption { color: #555; font-size: 0.88em; }
table { border-collapse: collapse; font-size: 0.82em; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2em 0.55em; text-align: right; border-bottom: 1px solid #e4e4e4;
         vertical-align: bottom; }
th { font-weight: 600; background: #f6f6f6; max-width: 7em; }
td.w, th.w { text-align: left; }
td { white-space: nowrap; }
td.w:last-child { max-width: 52em; white-space: normal; }
tr.missed td { background: #fbeaea; }
figure { margin: 1.2em 0; max-width: 1080px; }
svg { height: auto; display: block; }
"""


def number(x: float, digits: int = 3) -> str:
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    return f"{x:.{digits}g}" if abs(x) >= 1 or x == 0 else f"{x:.2f}"


def count(n: int, what: str) -> str:
    """With what is counted in the singular or the plural; units are the same in both."""
    if what in ("MiB", "ms"):
        return f"{n} {what}"
    plural = "es" if what.endswith("s") else "s"
    return f"{n} {what}{plural if n != 1 else ''}"


def is_number(text: str) -> bool:
    return re.fullmatch(r"[-+\d.,%]+( MiB| %| ms| vCPUs?| process(es)?| guests?)?",
                        text) is not None


@dataclass
class Title:
    text: str

    def as_text(self) -> list[str]:
        return ["", self.text, "-" * len(self.text), ""]

    def as_html(self, plt: Plot, salt: str) -> str:
        return f"<h2>{html.escape(self.text)}</h2>"


@dataclass
class Paragraph:
    text: str

    def as_text(self) -> list[str]:
        return [*wrap(self.text), ""]

    def as_html(self, plt: Plot, salt: str) -> str:
        return f"<p>{html.escape(self.text)}</p>"


@dataclass
class Table:
    heads: list[str]
    rows: list[list[str]]
    note: str

    def as_text(self) -> list[str]:
        return [*columns(self.heads, self.rows), *wrap(self.note), ""]

    def as_html(self, plt: Plot, salt: str) -> str:
        words = ["" if is_number(c) else ' class="w"' for c in self.rows[0]]

        def cells(tag: str, row: list[str]) -> str:
            return "".join(f"<{tag}{w}>{html.escape(c)}</{tag}>" for c, w in zip(row, words))

        out = [f"<table><thead><tr>{cells('th', self.heads)}</tr></thead><tbody>"]
        for row in self.rows:
            mark = ' class="missed"' if "MISSED" in row else ""
            out.append(f"<tr{mark}>{cells('td', row)}</tr>")
        out.append(f'</tbody></table><p class="note">{html.escape(self.note)}</p>')
        return "\n".join(out)


@dataclass
class Figure:
    draw: Draw
    caption: str

    def as_text(self) -> list[str]:
        return []

    def as_html(self, plt: Plot, salt: str) -> str:
        f = io.StringIO()
        figure = self.draw(plt)
        figure.savefig(f, format="svg", metadata={"Date": None})
        plt.close(figure)
        svg = f.getvalue()
        svg = svg[svg.index("<svg"):]
        svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
        svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 width="100%"', svg, count=1)
        # several figures in one page must not share names
        svg = re.sub(r'id="', f'id="{salt}', svg)
        svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{salt}", svg)
        return f"<figure>{svg}<figcaption>{html.escape(self.caption)}</figcaption></figure>"


class Page:
    def __init__(self, title: str, about: str) -> None:
        self.heading, self.about = title, about
        self.blocks: list[Title | Paragraph | Table | Figure] = []
        self.rows: list[list[object]] = []

    # -- what is on it

    def title(self, text: str) -> None:
        self.blocks.append(Title(text))

    def text(self, *paragraphs: str) -> None:
        self.blocks += [Paragraph(" ".join(p.split())) for p in paragraphs]

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> None:
        cells = [[str(c) for c in row] for row in rows]
        if cells:
            self.blocks.append(Table(list(heads), cells, note))

    def figure(self, draw: Draw, caption: str, substrate: str) -> None:
        self.blocks.append(Figure(draw, f"{caption} Substrate: {substrate}."))

    # -- for the CSV alone

    def record(self, section: str, s: Series, metric: str, unit: str, values: Spread) -> None:
        self.rows.append([section, s.key.bench, s.backend, *s.key[3:], s.rounds[0]["substrate"],
                          metric, unit, values.runs, *(f"{v:.6g}" for v in values.three())])

    def fact(self, section: str, tracker: str, mib: int | str, metric: str, unit: str,
             value: float | str, substrate: str, runs: int = 1) -> None:
        """A figure that is of no series."""
        text = value if isinstance(value, str) else f"{value:.6g}"
        empty = [""] * (len(Key._fields) - 4)
        self.rows.append([section, "", tracker, mib, *empty, substrate, metric, unit, runs,
                          text, text, text])

    # -- output

    def as_text(self) -> str:
        out = [self.heading, "=" * len(self.heading), f"Run: {self.about}.", ""]
        for block in self.blocks:
            out += block.as_text()
        return "\n".join(out) + "\n"

    def as_csv(self) -> str:
        f = io.StringIO()
        w = csv.writer(f, lineterminator="\n")
        w.writerow(CSV_HEADS)
        w.writerows(self.rows)
        return f.getvalue()

    def as_html(self) -> str:
        import matplotlib
        matplotlib.use("svg")
        import matplotlib.pyplot as plt
        # text stays text; ids do not change from run to run
        plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ooh",
                             "font.family": "sans-serif", "font.size": 9.5,
                             "figure.constrained_layout.use": True})
        body = "\n".join(block.as_html(plt, f"f{n}-") for n, block in enumerate(self.blocks))
        return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
                f"<title>What tracking costs</title><style>{STYLE}</style></head>"
                f"<body><h1>{self.heading}</h1><p>Run: {html.escape(self.about)}. All of it, as "
                "text and as CSV, lies beside this page, with the raw lines it was made from.</p>"
                f"{body}</body></html>\n")


def wrap(text: str, width: int = 118) -> list[str]:
    return textwrap.wrap(text, width)


def columns(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Numbers to the right, words to the left; long heads on several lines."""
    last_is_text = all(len(row[-1]) > 30 for row in rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    if last_is_text:
        widths[-1] = min(widths[-1], 90)
    lines = [textwrap.wrap(h, max(w, 9)) or [""] for h, w in zip(heads, widths)]
    widths = [max(w, *map(len, ls)) for w, ls in zip(widths, lines)]
    left = [not is_number(c) for c in rows[0]]

    def line(row: list[str]) -> str:
        return "  ".join(c.ljust(w) if ll else c.rjust(w)
                         for c, w, ll in zip(row, widths, left)).rstrip()

    deep = max(map(len, lines))
    heads_of = [[""] * (deep - len(ls)) + ls for ls in lines]
    out = [line(list(row)) for row in zip(*heads_of)]
    out.append(line(["-" * w for w in widths]))
    for row in rows:
        parts = textwrap.wrap(row[-1], 90) if last_is_text else [row[-1]]
        out.append(line([*row[:-1], parts[0] if parts else ""]))
        out += [line([""] * (len(row) - 1) + [p]) for p in parts[1:]]
    return out
