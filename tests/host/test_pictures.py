# SPDX-License-Identifier: GPL-2.0-only
"""The pictures of README (make pictures): the heat map says what the lines say, and both can be
made here."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import pytest
from hostlib import OOH, TOP, need

sys.path.insert(0, str(TOP / "demo"))
import heat  # noqa: E402


def line(*ranges):
    return json.dumps({"ranges": [{"start": hex(a * 4096), "end": hex(b * 4096)}
                                  for a, b in ranges]})


def test_a_cell_is_the_share_of_its_pages_that_were_written():
    # 8 pages in two places, in 4 rows of 2
    share, pages = heat.grid(heat.read([line((16, 20), (1000, 1004)), line(),
                                        line((17, 19), (1003, 1004))]), rows=4)
    assert pages == 8
    assert share.tolist() == [[1, 0, 0.5], [1, 0, 0.5], [1, 0, 0], [1, 0, 0.5]]


def test_fewer_pages_than_rows():
    share, pages = heat.grid(heat.read([line((5, 6)), line((5, 6), (9, 10))]), rows=100)
    assert pages == 2
    assert share.tolist() == [[1, 1], [0, 1]]


def test_the_pictures_are_made(tmp_path):
    need("pagemap-scan")
    for program in ("redis-server", "tmux"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")
    r = subprocess.run([TOP / "demo" / "pictures", "--keys", "2000", "--rounds", "2", tmp_path],
                       capture_output=True, text=True, timeout=300,
                       env={"PATH": "/usr/bin:/bin", "OOH_BIN": OOH})
    assert r.returncode == 0, r.stderr
    assert (tmp_path / "heat.png").read_bytes().startswith(b"\x89PNG")
    words = [t.text.split() for t in xml.etree.ElementTree.parse(tmp_path / "top.svg").iter()
             if t.tag.endswith("text")]
    assert words[1][:2] == ["PID", "COMMAND"] and words[2][1] == "redis-server"
