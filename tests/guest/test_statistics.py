# SPDX-License-Identifier: GPL-2.0-only
"""What the host sees of a guest's use of SPML, by the domctl."""

import pytest
from guest.domain import DOM0, spml_stats

PAGES = 20000


def test_of_a_process_that_is_followed(machines):
    m = machines("default")
    before = spml_stats(m)
    m.good(f"OOH_TESTED=spml /usr/lib/ooh/tests/writer {PAGES} 2", timeout=600)
    after = spml_stats(m)
    print(before, after)
    # each page is written in each of two rounds
    assert after["records"] - before["records"] >= 2 * PAGES
    flushes, full = (after[k] - before[k] for k in ("flushes", "pml_full"))
    assert flushes >= full >= PAGES // 512
    assert after["longest"] > 0 < after["max_tracked"]
    # nobody is followed any more
    assert (after["tracked"], after["logged"], after["pages"]) == (0, 0, 0)
    m.good("setsid ooh record -b spml -i 1 -- sleep 1000 </dev/null >/dev/null 2>&1 & sleep 3")
    now = spml_stats(m)
    m.good("pkill -INT ooh; while pgrep -x ooh; do sleep 0.1; done; pkill sleep; true")
    assert 0 < now["tracked"] < now["max_tracked"]
    assert now["logged"] <= now["tracked"] and now["pages"] > 0
    assert spml_stats(m)["tracked"] == 0


@pytest.mark.parametrize("config, error", [("nospml", "EOPNOTSUPP"), ("plainxen", "ENOSYS")])
def test_where_there_are_none(machines, config, error):
    r = machines(config).dom0("./spmlstats $(xl domid guest)", into=[DOM0 / "spmlstats"])
    assert (r.returncode, r.stderr.split()[-1]) == (1, error)
