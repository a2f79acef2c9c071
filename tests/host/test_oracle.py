# SPDX-License-Identifier: GPL-2.0-only
"""The oracle finds what a tracker leaves out."""

import os
import subprocess

from hostlib import HERE, OOH, TOP, compile_c, need, verify
from pathlib import Path


def test_oracle_alone(tmp_path):
    p = compile_c(tmp_path / "u", HERE / "unit_oracle.c", TOP / "libooh" / "cmd" / "oracle.c")
    r = subprocess.run([p, tmp_path / "file"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr


def test_no_tracker_code_in_oracle():
    text = (TOP / "libooh" / "cmd" / "oracle.c").read_text()
    own = [line for line in text.splitlines() if line.startswith('#include "')]
    assert own == ['#include "oracle.h"']


def test_lying_tracker_is_caught(tmp_path):
    need("pagemap-scan")
    lib = compile_c(tmp_path / "lying.so", HERE / "unit_lying.c",
                    flags=["-shared", "-fPIC", "-ldl"])
    work = compile_c(tmp_path / "changers", HERE / "changers.c")
    honest = verify("-b", "pagemap-scan", "-n", 3, "--", work, "store")
    assert honest["total"]["missed"] == 0 and honest["missed_pages"] == []
    lie = verify("-b", "pagemap-scan", "-n", 3, "--", work, "store", status=1,
                 env={**os.environ, "LD_PRELOAD": str(lib)})
    assert lie["total"]["missed"] >= 1
    assert lie["missed_pages"][0]["address"].startswith("0x")
    text = subprocess.run([OOH, "verify", "-b", "pagemap-scan", "-n", "1", "--", work, "store"],
                          env={**os.environ, "LD_PRELOAD": str(lib)}, capture_output=True,
                          text=True)
    assert text.returncode == 1 and "MISSED by pagemap-scan" in text.stdout


def test_a_late_tracker_is_caught(tmp_path):
    """Each page is reported, but a round later than it was written."""
    need("pagemap-scan")
    lib = compile_c(tmp_path / "lying.so", HERE / "unit_lying.c",
                    flags=["-shared", "-fPIC", "-ldl"])
    work = compile_c(tmp_path / "changers", HERE / "changers.c")
    lie = verify("-b", "pagemap-scan", "-n", 5, "--", work, "store", status=1,
                 env={**os.environ, "LD_PRELOAD": str(lib), "OOH_LIE": "late"})
    assert lie["total"]["missed"] >= 1


def test_reserved_space_costs_nothing(tmp_path):
    """4 TiB of it: read word by word, 8 GiB of pagemap each round."""
    need("pagemap-scan")
    c = tmp_path / "r.c"
    c.write_text("""#include <sys/mman.h>
                    #include <unistd.h>
                    int main(void)
                    {
                        volatile char *p = mmap(0, 4UL << 40, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                                -1, 0);
                        for (unsigned long i = 0;; i++, usleep(1000))
                            p[i % 16 << 36]++;
                    }""")
    doc = verify("-b", "pagemap-scan", "-n", 2, "--", compile_c(tmp_path / "reserve", c), timeout=8)
    assert doc["total"]["missed"] == 0 and doc["total"]["changed"] >= 16


def test_binary_is_there():
    assert Path(OOH).exists()
