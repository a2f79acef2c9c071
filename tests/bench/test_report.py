# SPDX-License-Identifier: GPL-2.0-only
"""The report: a recorded input gives the expected text and CSV, and a page that a browser shows
without anything over anything else."""

import csv
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import TOP

HERE = Path(__file__).parent
REPORT = TOP / "bench" / "report"
WIDTH = 1280

# What is beyond the window, and which texts of a figure lie over each other.
LOOK = """
const bad = [];
const wide = document.documentElement.scrollWidth;
if (wide > window.innerWidth) bad.push(`the page is ${wide} wide in ${window.innerWidth}`);
document.querySelectorAll('table').forEach(t => { const r = t.getBoundingClientRect();
  if (r.right > window.innerWidth) bad.push(`a table reaches ${r.right}`); });
document.querySelectorAll('figure svg').forEach((svg, n) => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim()).map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
  if (texts.length < 4) bad.push(`figure ${n} has no text`);
  if (frame.height < 200) bad.push(`figure ${n} is ${frame.height} high`);
  texts.forEach(([a, r], i) => {
    if (r.height < 8) bad.push(`figure ${n}: ${a} is ${r.height} high`);
    if (r.left < frame.left - 2 || r.right > frame.right + 2 || r.top < frame.top - 2 || r.bottom > frame.bottom + 2) bad.push(`figure ${n}: ${a} is cut off`);
    texts.slice(i + 1).forEach(([b, q]) => {
      const x = Math.min(r.right, q.right) - Math.max(r.left, q.left), y = Math.min(r.bottom, q.bottom) - Math.max(r.top, q.top);
      if (x > 2 && y > 3) bad.push(`figure ${n}: ${a} lies over ${b}`);
    });
  });
});
document.body.innerHTML = '<pre id="found"></pre>';
document.getElementById('found').textContent = JSON.stringify({bad: bad, figures: FIGURES});
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    shutil.copy(HERE / "raw.txt", out / "raw.txt")
    r = subprocess.run([REPORT, out], stderr=subprocess.PIPE, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    return out


@pytest.mark.parametrize("name", ["report.txt", "report.csv"])
def test_as_expected(made, name):
    """tests/bench/expected.*: after a change that is meant, copy the new ones there and read them."""
    expected = (HERE / name.replace("report", "expected")).read_text(encoding="utf-8")
    assert (made / name).read_text(encoding="utf-8") == expected


def test_figures_from_the_raw_lines(made):
    """Not from the report's own arithmetic: one slow-down, by hand."""
    rounds = {}
    for line in (HERE / "raw.txt").read_text(encoding="utf-8").splitlines():
        d = dict(zip(line.split()[2::2], line.split()[3::2]))
        if line.startswith("bench array") and d["part"] == "headline" and d["mib"] == "1" and d["backend"] in ("none", "epml"):
            rounds.setdefault(d["backend"], []).append((int(d["ticks"]) - int(d["own"])) / int(d["work"]))
    epml = rounds["epml"][0] / ((rounds["none"][0] + rounds["none"][1]) / 2) - 1
    with open(made / "report.csv", newline="", encoding="utf-8") as f:
        row = next(r for r in csv.DictReader(f) if (r["section"], r["tracker"], r["MiB"], r["metric"]) == ("headline", "epml", "1", "slow-down"))
    assert float(row["median"]) == pytest.approx(100 * epml, rel=1e-3)
    assert row["substrate"] == "emulated"


def test_page_stands_alone(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#)(https?:)?//|<script|@import|<link', page)
    assert page.count("<svg") >= 2
    # units on all axes, and the substrate under each figure
    for figure in re.findall(r"<figure>.*?</figure>", page, re.S):
        assert re.search(r"MiB|%|cycles|ms\b|processes", figure)
        assert "Substrate: " in html.unescape(figure)


def look(page, tmp_path):
    """What a browser finds wrong with the page, and how many figures it was told of."""
    figures = page.count("<figure>")
    (tmp_path / "look.html").write_text(page.replace("</body>", f"<script>{LOOK.replace('FIGURES', str(figures))}</script></body>"), encoding="utf-8")
    r = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
                        f"--window-size={WIDTH},900", "--dump-dom", f"file://{tmp_path / 'look.html'}"],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180)
    assert r.returncode == 0, r.stderr[-1000:]
    found = re.search(r'<pre id="found">(.*?)</pre>', r.stdout, re.S)
    assert found, r.stdout[-500:] + r.stderr[-500:]
    return json.loads(html.unescape(found[1]))


def test_page_in_a_browser(made, tmp_path):
    result = look((made / "report.html").read_text(encoding="utf-8"), tmp_path)
    assert result["figures"] >= 2
    assert result["bad"] == []


def test_the_look_bites(made, tmp_path):
    """One text is put over another, and a table made too wide."""
    page = (made / "report.html").read_text(encoding="utf-8")
    texts = [m.group(0) for m in re.finditer(r"<text [^>]*>", page)]
    page = page.replace(texts[4], texts[3], 1).replace("<table>", '<table style="width: 1400px">', 1)
    bad = " ".join(look(page, tmp_path)["bad"])
    assert "lies over" in bad
    assert "a table reaches" in bad


@pytest.mark.parametrize("text,why", [(None, "No such file"), ("", "no measurements"), ("bench\n", "line 1: not a line of the bench"),
                                      ("bench array backend\n", "line 1"), ("bench array backend epml\n", "line 1: no part"),
                                      ("\udcff\n", "utf-8")])
def test_a_bad_input(tmp_path, text, why):
    if text is not None:
        (tmp_path / "raw.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    r = subprocess.run([REPORT, tmp_path], stderr=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 1
    assert why in r.stderr
    assert not (tmp_path / "report.html").exists()


def test_usage():
    r = subprocess.run([REPORT], stderr=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 2
