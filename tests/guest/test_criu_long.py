# SPDX-License-Identifier: GPL-2.0-only
"""make check-criu: processes whose memory changes in all ways there are, and one with very many
pages, dumped and restored by CRIU with our plugin. Beside the other long one, CRIU's own tests."""

import re

import pytest
from conftest import LOGS, LONG, TOP

pytestmark = LONG


# memory that changes in all ways, with pre-dumps of both kinds and with whole dumps
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("options", ["", "-m read", "-c"])
@pytest.mark.parametrize("backend", [*LOGS, "pagemap-scan", "stock"])
def test_every_way(vm, backend, options):
    # not signals: with some pending, infecting the process fails now and
    # then, without the plugin, too
    ways = ("store threads kernel map map-over move drop drop-read heap stack fork shared protect "
            "file huge spawn")
    env = "CRIU_LIBS_DIR=/none" if backend == "stock" else f"OOH_BACKEND={backend}"
    r = vm.sh(f"mkdir -p /none; export {env}; for w in {ways}; do "
              f"./criu-round {options} d /usr/lib/ooh/tests/changers $w || exit 1; rm -rf d; done",
              into=[TOP / "tests" / "guest" / "criu-round"], timeout=3600)
    print(r.stdout)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("same memory") == len(ways.split()), r.stdout + r.stderr


@pytest.mark.parametrize("backend", LOGS)
def test_many_pages(machines, backend):
    """More written between two dumps than the kernel's interfaces take at once, 131,072 pages"""
    r = machines("big").sh(f"SETTLE=5 OOH_BACKEND={backend} ./criu-round -n 1 d "
                           "/usr/lib/ooh/tests/changers sweep 140000; s=$?; rm -rf d; exit $s",
                           into=[TOP / "tests" / "guest" / "criu-round"], timeout=1200)
    assert r.returncode == 0 and "same memory" in r.stdout, r.stdout + r.stderr
    first, last = map(int, re.search(r"pages written: ([\d ]+)", r.stdout).group(1).split())
    assert first >= last > 131072
