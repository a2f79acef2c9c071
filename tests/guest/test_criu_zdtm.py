# SPDX-License-Identifier: GPL-2.0-only
"""CRIU's own tests with --pre and --snaps, with our plugin. make check runs one;
make check-criu all of the list, and without the plugin, too, and prints both: as
they come in build/criu-zdtm.txt."""

import os
import re
from pathlib import Path

import pytest

from conftest import LOGS, LONG, TOP

BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build"))
ARCHIVE = BUILD / "zdtm.tar"
# not maps04: it wants more memory than the guest has (CRIU's own CI leaves it out
# of --pre and --snaps, too)
FEW = ["transition/maps007"]
# those of memory first
ALL = FEW + ["transition/maps008", "static/mem-touch", "static/cow00", "static/cow01",
             "transition/shmem", "transition/pid_reuse", "transition/fork"] + [
    "static/" + t for t in ("maps00", "maps01", "maps02", "maps03", "maps05", "maps06", "maps09",
                            "maps10", "maps11", "maps12", "maps_file_prot", "mprotect00", "shm",
                            "shm-mp", "memfd00", "memfd01", "vdso01", "pthread00", "env00",
                            "session00", "zombie00", "busyloop00", "caps00", "sleeping00",
                            "pstree")] + [
    "transition/" + t for t in ("fork2", "file_read", "ipc", "stack", "thread-bomb", "lazy-thp")]
verdicts_by_log = []


def unpack(vm):
    """The archive, into the guest, where it stays."""
    if vm.exec("test", "-x", "/zdtm/test/zdtm.py").returncode:
        r = vm.exec("tar", "-C", "/", "--warning=no-timestamp", "-xf", ARCHIVE.name, into=[ARCHIVE])
        assert r.returncode == 0, r.stderr


def zdtm(vm, way, options, test, flavour="h"):
    """The verdict; it is put into build/criu-zdtm.txt, too."""
    unpack(vm)
    r = vm.exec("./criu-zdtm", way, *options, "-f", flavour, "--", test, timeout=600,
                into=[TOP / "tests" / "guest" / "criu-zdtm"])
    line = next((line for line in r.stdout.splitlines() if line.startswith(f"{test}: ")), None)
    assert line, f"status {r.returncode}: {r.stdout + r.stderr}"
    with open(BUILD / "criu-zdtm.txt", "a", encoding="utf-8") as out:
        print(f"{' '.join(options)}, -f {flavour}, {way}: {line}", file=out)
    return line.split(": ", 1)[1]


def by_the_plugin(verdict):
    return re.match(r"PASS .*, [1-9]\d* dumps by the plugin", verdict)


def test_a_few(vm):
    for test in FEW:
        verdict = zdtm(vm, "epml", ["--pre", "3"], test)
        assert by_the_plugin(verdict), (test, verdict)


@LONG
def test_the_hooks_by_the_plugin_of_criu_itself(vm):
    """Its test plugin answers by soft-dirty bits: the hooks hold for others than ours. (For a short
    while: the next test, which has it, too.)"""
    verdict = zdtm(vm, "mem_track_test", ["--pre", "2"], "transition/maps007")
    assert by_the_plugin(verdict), verdict


@pytest.mark.parametrize("plugins", ["/none", "/zdtm/test/plugins", "/usr/lib/criu"])
def test_a_mapping_that_criu_merges(vm, plugins):
    """One of its pages is new, and no soft-dirty bit tells."""
    unpack(vm)
    out = vm.good(f"export CRIU_LIBS_DIR={plugins}; "
                  "setsid /usr/lib/ooh/tests/merged </dev/null >/dev/null 2>&1 & p=$!; sleep 0.5; "
                  "mkdir -p /none 1 2;"
                  "set -e; criu pre-dump -t $p -D 1 --track-mem; kill -USR1 $p; sleep 0.5;"
                  "criu dump -t $p -D 2 --prev-images-dir ../1 --track-mem -v4 -o log; "
                  "criu restore -d -D 2; kill -USR2 $p;"
                  "for i in 1 2 3 4 5; do [ -s verdict ] || sleep 0.5; done; cat verdict; "
                  "sed -n '/are dirty/p; /has written to/p' 2/log")
    verdict, told = out[:3], out[3:]
    assert verdict == "new"
    assert bool(told) == (plugins != "/none")


@LONG
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("test", ALL)
def test_as_stock(vm, test):
    """What passes without the plugin passes with it, by each log."""
    for options in (["--pre", "3"], ["--pre", "3", "--snaps"]):
        stock, *logs = (zdtm(vm, way, options, test) for way in ("stock", *LOGS))
        verdicts_by_log.extend(logs)
        for verdict in logs:
            assert verdict[:4] == "PASS" or stock[:4] != "PASS", (options, verdict)


@LONG
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("options, flavour", [(["--pre", "3"], "ns"), (["--pre", "3"], "uns"),
                                              (["--pre", "3", "--rpc"], "h")])
def test_in_namespaces_and_by_rpc_as_stock(vm, options, flavour):
    """As for a container: namespaces, also of users, and criu as a service instead of a command."""
    for test in FEW + ["static/mem-touch"]:
        stock, *logs = (zdtm(vm, way, options, test, flavour) for way in ("stock", *LOGS))
        for verdict in logs:
            assert verdict[:4] == stock[:4], (options, flavour, stock, verdict)


@LONG
def test_it_was_the_plugin():
    """The plugin said what was written: what passed above did not pass without it."""
    assert len(list(filter(by_the_plugin, verdicts_by_log))) > len(verdicts_by_log) / 2
