# SPDX-License-Identifier: GPL-2.0-only
"""The report: a recorded input gives the expected text and CSV, and a page that a browser shows
without anything over anything else."""

import csv
import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree
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
  const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
    .map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
  if (texts.length < 4) bad.push(`figure ${n} has no text`);
  if (frame.height < 200) bad.push(`figure ${n} is ${frame.height} high`);
  texts.forEach(([a, r], i) => {
    if (r.height < 8) bad.push(`figure ${n}: ${a} is ${r.height} high`);
    if (r.left < frame.left - 2 || r.right > frame.right + 2 ||
        r.top < frame.top - 2 || r.bottom > frame.bottom + 2)
      bad.push(`figure ${n}: ${a} is cut off`);
    texts.slice(i + 1).forEach(([b, q]) => {
      const x = Math.min(r.right, q.right) - Math.max(r.left, q.left);
      const y = Math.min(r.bottom, q.bottom) - Math.max(r.top, q.top);
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
    r = subprocess.run([REPORT, out], stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    return out


@pytest.mark.parametrize("name", ["report.txt", "report.csv"])
def test_as_expected(made, name):
    """tests/bench/expected.*: after an intended change, copy the new files there and read them."""
    expected = (HERE / name.replace("report", "expected")).read_text(encoding="utf-8")
    assert (made / name).read_text(encoding="utf-8") == expected


def test_figures_from_the_raw_lines(made):
    """One slow-down, computed here and not by the report."""
    rounds = {}
    for line in (HERE / "raw.txt").read_text(encoding="utf-8").splitlines():
        d = dict(zip(line.split()[2::2], line.split()[3::2]))
        if (line.startswith("bench array") and d["part"] == "headline" and d["mib"] == "1"
                and d["backend"] in ("none", "epml")):
            cost = (int(d["ticks"]) - int(d["own"])) / int(d["work"])
            rounds.setdefault(d["backend"], []).append(cost)
    epml = rounds["epml"][0] / ((rounds["none"][0] + rounds["none"][1]) / 2) - 1
    with open(made / "report.csv", newline="", encoding="utf-8") as f:
        row = next(r for r in csv.DictReader(f)
                   if r["section"] == "headline" and r["tracker"] == "epml" and r["MiB"] == "1"
                   and r["metric"] == "slow-down")
    assert float(row["median"]) == pytest.approx(100 * epml, rel=1e-3)
    assert row["substrate"] == "emulated"


def test_page_opens_with_its_plot(made):
    """The headline's, before any table."""
    page = (made / "report.html").read_text(encoding="utf-8")
    figure = page.index("<figure>")
    assert figure < page.index("<table>")
    assert page[:figure].count("<h2>") == 1 and "What the tracked program pays" in page[:figure]


def test_an_event_that_differs_by_chance_is_a_dash(tmp_path):
    """By no more than it does in rounds without a tracker."""
    text = "# mode emulated\n"
    for backend, exits, cpuid in (("none", 100, 50), ("epml", 108, 80), ("none", 110, 50)):
        line = good().replace("backend none", f"backend {backend}")
        for name, value in (("ticks", 1000), ("exits", exits), ("exit_cpuid", cpuid)):
            line = re.sub(rf" {name} \d+", f" {name} {value}", line, count=1)
        text += line + "\n"
    (tmp_path / "raw.txt").write_text(text, encoding="utf-8")
    r = subprocess.run([REPORT, tmp_path], stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    events = (tmp_path / "report.txt").read_text(encoding="utf-8").split("Events of a round")[1]
    row = next(line.split() for line in events.splitlines() if " epml " in line)
    # the array's size in two words, the tracker, exits, log full, vmcall, interrupt, cpuid
    assert (row[3], row[7]) == ("-", "30")


def test_page_stands_alone(made):
    page = (made / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#)(https?:)?//|<script|@import|<link', page)
    assert page.count("<svg") == page.count("<figure>") == FIGURES
    for figure in re.findall(r"<figure>.*?</figure>", page, re.S):
        assert "Substrate: " in html.unescape(figure)
        check_axes(figure)


# of the recorded input: slow-down by size; rounds' ends by share, by memory; intervals, vCPUs,
# guests, processes; programs; single costs
FIGURES = 9
UNIT = re.compile(r"(, (MiB|%|million cycles|ms)|^(ms|vCPUs|guests|processes|MiB)"
                  r"|points of slow-down)$")


def check_axes(figure):
    """A unit on each axis of numbers; axes side by side have that of the first."""
    svg = re.search(r"<svg.*</svg>", figure, re.S)[0].replace(' xlink:href', ' href')
    units = {"x": [], "y": []}
    for axis in xml.etree.ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        number = re.search(r"matplotlib\.axis_(\d+)$", axis.get("id", ""))
        if not number:
            continue
        texts = ["".join(t.itertext()).strip()
                 for t in axis.iter("{http://www.w3.org/2000/svg}text")]
        words = [t for t in texts if not re.fullmatch(r"[-+−0-9.,×^{}$\\a-z]*[0-9][^a-zA-Z]*", t)]
        units["x" if int(number[1]) % 2 else "y"].append((any(UNIT.search(w) for w in words),
                                                          len(words)))
    assert units["x"] and all(unit for unit, _ in units["x"]), units
    # a name for each bar, or a unit
    assert units["y"][0][0] or units["y"][0][1] > 1, units


def look(page, tmp_path):
    """What a browser finds wrong with the page, and how many figures the page has."""
    figures = page.count("<figure>")
    script = LOOK.replace("FIGURES", str(figures))
    page = page.replace("</body>", f"<script>{script}</script></body>")
    (tmp_path / "look.html").write_text(page, encoding="utf-8")
    r = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu",
                        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={WIDTH},900",
                        "--dump-dom", f"file://{tmp_path / 'look.html'}"],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180)
    assert r.returncode == 0, r.stderr[-1000:]
    found = re.search(r'<pre id="found">(.*?)</pre>', r.stdout, re.S)
    assert found, r.stdout[-500:] + r.stderr[-500:]
    return json.loads(html.unescape(found[1]))


def test_page_in_a_browser(made, tmp_path):
    result = look((made / "report.html").read_text(encoding="utf-8"), tmp_path)
    assert result["figures"] == FIGURES
    assert result["bad"] == []


def test_the_look_bites(made, tmp_path):
    """One text is put over another, and a table made too wide."""
    page = (made / "report.html").read_text(encoding="utf-8")
    texts = [m.group(0) for m in re.finditer(r"<text [^>]*>", page)]
    page = page.replace(texts[4], texts[3], 1)
    page = page.replace("<table>", '<table style="width: 1400px">', 1)
    bad = " ".join(look(page, tmp_path)["bad"])
    assert "lies over" in bad
    assert "a table reaches" in bad


@pytest.mark.parametrize("text,why", [(None, "No such file"), ("", "no measurements"),
                                      ("bench\n", "line 1: not a line of the bench"),
                                      ("bench array backend\n", "line 1"),
                                      ("bench array backend epml\n", "line 1: no part"),
                                      ("\udcff\n", "utf-8")])
def test_a_bad_input(tmp_path, text, why):
    if text is not None:
        (tmp_path / "raw.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    r = subprocess.run([REPORT, tmp_path], stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 1
    assert why in r.stderr
    assert not (tmp_path / "report.html").exists()


def good():
    return re.search("^bench array .*$", (HERE / "raw.txt").read_text(encoding="utf-8"), re.M)[0]


@pytest.mark.parametrize("change,why", [
    ((r"# mode \w+", "# nothing"), "no line '# mode'"),
    ((r" mib \d+ ", " mib big "), "line 2: no number mib"),
    ((r" ticks \d+ ", " "), "line 2: no number ticks"),
    ((r" ticks \d+ ", " ticks 0 "), "line 2: nothing took any time"),
    ((r" ticks \d+ ", " ticks ² "), "line 2: no number ticks"),
    ((" substrate emulated ", " substrate dreamt "), "line 2: dreamt is no substrate"),
    ((r" collect \d+ ", " "), "no number collect"),
    (("$", "\n# table vmexit\n"), "line 3: not NAME CYCLES"),
    (("$", "\n# table vmexit x\n"), "line 3: not NAME CYCLES")])
def test_a_damaged_input(tmp_path, change, why):
    text = f"# mode emulated\n{good()}"
    damaged = re.sub(*change, text, count=1) if change[0] != "$" else text + change[1]
    assert damaged != text
    (tmp_path / "raw.txt").write_text(damaged, encoding="utf-8")
    r = subprocess.run([REPORT, tmp_path], stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 1
    assert re.search(why, r.stderr), r.stderr
    assert "Traceback" not in r.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["raw.txt"]


def test_rounds_without_a_comparison(tmp_path):
    """They are not quietly left out."""
    alone = good().replace("backend none", "backend epml")
    (tmp_path / "raw.txt").write_text(f"# mode emulated\n{alone}\n", encoding="utf-8")
    r = subprocess.run([REPORT, tmp_path], stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 0, r.stderr
    text = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert "no rounds without a tracker beside it" in text


def test_no_place(tmp_path):
    shutil.copy(HERE / "raw.txt", tmp_path / "raw.txt")
    (tmp_path / "report.csv").mkdir()
    r = subprocess.run([REPORT, tmp_path], stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 1 and "report.csv" in r.stderr and "Traceback" not in r.stderr


def test_usage():
    r = subprocess.run([REPORT], stderr=subprocess.PIPE, text=True, timeout=300)
    assert r.returncode == 2
