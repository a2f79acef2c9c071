# SPDX-License-Identifier: GPL-2.0-only
"""A heat map from the lines of `ooh record --json`: which pages were written, round by round."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PAGE = 4096
ROWS = 240

Pages = NDArray[np.int64]


def read(lines: Iterable[str | bytes]) -> list[tuple[Pages, Pages]]:
    """The lines of ooh record --json: for each round the first pages and the page behind, in two
    arrays."""
    rounds = []
    for line in lines:
        ranges = json.loads(line)["ranges"]
        rounds.append((np.array([int(r["start"], 16) // PAGE for r in ranges], dtype=np.int64),
                       np.array([int(r["end"], 16) // PAGE for r in ranges], dtype=np.int64)))
    return rounds


def pages_of(first: Pages, behind: Pages) -> Pages:
    """Every page of some ranges."""
    return np.concatenate([np.arange(a, b) for a, b in zip(first, behind)]
                          or [np.empty(0, np.int64)])


def grid(rounds: Sequence[tuple[Pages, Pages]],
         rows: int = ROWS) -> tuple[NDArray[np.float64], int]:
    """(share, pages): share[row, round] of the row's pages were written in the round. The rows hold
    those pages that were written at all, in the order of their addresses, all rows as many."""
    written = [pages_of(*r) for r in rounds]
    known = np.unique(np.concatenate(written)) if written else np.empty(0, np.int64)
    rows = max(1, min(rows, len(known)))
    # the row of known page i is i * rows // len(known)
    size = np.bincount(np.arange(len(known)) * rows // max(1, len(known)), minlength=rows)
    share = np.zeros((rows, len(rounds)))
    for n, pages in enumerate(written):
        row = np.searchsorted(known, pages) * rows // max(1, len(known))
        share[:, n] = np.bincount(row, minlength=rows) / np.maximum(size, 1)
    return share, len(known)


def draw(rounds: Sequence[tuple[Pages, Pages]], phases: Iterable[tuple[str, int]], title: str,
         out: str | Path) -> None:
    """phases: (name, number of rounds), one after the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    share, pages = grid(rounds)
    mib = pages * PAGE / 2**20
    fig, (top, ax) = plt.subplots(2, 1, sharex=True, figsize=(9.6, 5.4), height_ratios=(1, 3.6),
                                  layout="constrained")
    written = [int((behind - first).sum()) for first, behind in rounds]
    top.bar(np.arange(len(rounds)) + 0.5, written, width=1, color="#7a1f4f")
    top.set_ylabel("pages written")
    top.set_ylim(0, max(written) * 1.6)  # room for the phases' names
    top.spines[["top", "right"]].set_visible(False)
    top.set_title(title, loc="left", fontsize=11, pad=12)

    colours = plt.get_cmap("inferno_r").copy()
    colours.set_bad("white")
    image = ax.imshow(np.where(share > 0, share, np.nan), aspect="auto", origin="lower",
                      interpolation="nearest", extent=(0, len(rounds), 0, mib), cmap=colours,
                      norm=LogNorm(0.005, 1))
    ax.set_xlabel("round")
    ax.set_ylabel("address (MiB of pages ever written)")
    bar = fig.colorbar(image, ax=[top, ax], pad=0.01, label="share of the pages that were written",
                       shrink=0.8)
    bar.set_ticks([0.01, 0.1, 1], labels=["1 %", "10 %", "all"])
    at = 0
    for name, n in phases:
        top.annotate(name, (at + n / 2, 0.97), xycoords=("data", "axes fraction"), ha="center",
                     va="top", fontsize=9)
        at += n
        for a in (top, ax):
            a.axvline(at, color="#888888", linewidth=0.6, linestyle=":")
    fig.savefig(out, dpi=100, metadata={"Software": None})
    plt.close(fig)
