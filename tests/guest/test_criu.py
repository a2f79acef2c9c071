# SPDX-License-Identifier: GPL-2.0-only
"""CRIU with our plugin in the guest: a process dumped step by step is restored as it was."""

import base64
import io
import re
import tarfile

import pytest
from conftest import LOGS, TOP
from testbed import criustats

HERE = TOP / "tests" / "guest"
CHANGERS = "/usr/lib/ooh/tests/changers"


def test_check_reports_it(vm):
    out = vm.good("mkdir images; cd images; : >ooh-marks; criu check --feature mem_dirty_track; "
                  "ls; ps")
    assert "Memory is tracked by ooh_plugin" in out
    # it dumps nothing: no tracker is opened, and no image loses its mark
    assert "ooh-holder" not in out and "ooh-marks" in out


def test_without_the_module_it_says_so(module):
    vm = module()
    # CRIU uses the kernel's soft-dirty bits then
    out = vm.good("rmmod ooh; criu check --feature mem_dirty_track 2>&1; "
                  "sleep 100 </dev/null >/dev/null 2>&1 & p=$!; sleep 0.3;"
                  "mkdir 1; criu pre-dump -t $p -D 1 -o log; cat 1/log; ls 1; kill $p; "
                  "insmod /usr/lib/ooh/ooh.ko")
    assert "mem_dirty_track is supported" in out and "tracked by" not in out
    assert re.search(r"ooh_plugin: disabled: .*/dev/ooh is absent: the module ooh is not loaded",
                     out)
    assert "ooh-marks" not in out


def test_the_synopsis_runs_as_printed(vm):
    page = (TOP / "criu-plugin" / "ooh-criu.7").read_text()
    lines = page.split(".SH SYNOPSIS\n.nf\n")[1].split(".fi")[0]
    lines = lines.replace("\\fIPID\\fR", "$PID").replace("\\-", "-")
    # not sleep: the image's, interrupted as stock criu does, too, takes its time for over
    vm.good(f"setsid {CHANGERS} store </dev/null >/dev/null 2>&1 & PID=$!; sleep 0.5; "
            f"set -e;\n{lines}kill -0 $PID; kill -KILL $PID")


@pytest.mark.parametrize("log", LOGS)
def test_reserved_address_space_costs_nothing(vm, log):
    """A bit for each page of 8 TiB would be 256 MiB."""
    out = vm.good("setsid /usr/lib/ooh/tests/roomy 8192 </dev/null >ready 2>&1 & p=$!; "
                  "while ! grep -q ready ready; do sleep 0.1; done;"
                  f"mkdir 1 2; export OOH_BACKEND={log}; set -e; "
                  "criu pre-dump --track-mem -t $p -D 1 -o log;"
                  "time -v criu dump --track-mem -t $p -D 2 --prev-images-dir ../1 -o log -v4 2>&1;"
                  "grep 'has written to' 2/log; rm -r 1/pages* 2/pages*")
    assert int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", out).group(1)) < 32 << 10
    assert "has written to" in out


def test_over_rpc(vm):
    """criu swrk, as runc, podman, LXC and libcriu use criu.

    Meanwhile the holder answers, and can be told to let go."""
    out = vm.good("setsid /usr/lib/ooh/tests/changers store </dev/null >/dev/null 2>&1 & p=$!; "
                  "sleep 0.5; mkdir 1 2 3 4;"
                  "dump=/usr/lib/ooh/tests/rpcdump; $dump $p 1; $dump $p 2 ../1; $dump $p 3 ../2;"
                  "/usr/libexec/ooh-holder --list | grep -w $p; "
                  "/usr/libexec/ooh-holder --release $p; $dump $p 4 ../3;"
                  "for i in 1 2 3 4; do sed -n \"s/^.* ooh_plugin: \\(.*$p.*\\)/$i \\1/p\" $i/log; "
                  "done; kill -KILL $p; echo")
    assert re.search(r"^2 \d+ has written to \d+ ranges since round 1", out, re.M), out
    assert re.search(r"^3 \d+ has written to \d+ ranges since round 2", out, re.M), out
    assert re.search(r"^\d+\tepml\t3 rounds", out, re.M), out
    assert re.search(r"^4 Everything of \d+ is dirty: the mark is of a tracker that is not there",
                     out, re.M), out


@pytest.mark.parametrize("options, way", [
    ("", "map-over"), ("", "fork"), ("-m read", "protect"), ("-c", "move"),
])
def test_memory_is_the_same(vm, options, way):
    """Pre-dumped while it changes, stopped, dumped, restored twice: each page is compared."""
    r = vm.sh(f"ROUNDS='1 2' ./criu-round {options} d {CHANGERS} {way}; rc=$?; "
              "grep -h 'ooh_plugin: ' d/*/log; exit $rc",
              into=[HERE / "criu-round"])
    assert r.returncode == 0, r.stdout + r.stderr
    assert "same memory" in r.stdout
    # the plugin, not everything that could be
    assert len(re.findall(r"has written to \d+ ranges since round", r.stdout)) >= 3, r.stdout
    first, *later = map(int, re.search(r"pages written: ([\d ]+)", r.stdout).group(1).split())
    if way != "fork":
        assert all(n < first for n in later)


def test_what_can_go_wrong(vm):
    r = vm.sh("./criu-faults", into=[HERE / "criu-faults"])
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.count("ok:") == 11


def test_redis_is_restored(vm, tmp_path):
    """And CRIU's statistics show that it does not look at pages that were not written."""
    r = vm.sh("PAUSE=0.3 ./redis-checkpoint out 10000 3 200 spml epml; s=$?; "
              "tar -cf - out | base64; exit $s",
              into=[TOP / "demo" / "redis-checkpoint"])
    assert r.returncode == 0, r.stderr
    assert len(re.findall(r"10000 keys, \d+ acknowledged changes, 0 wrong", r.stderr)) == 3
    assert len(re.findall(r"has written to \d+ ranges since round", r.stderr)) == 4
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(r.stdout))) as tar:
        tar.extractall(tmp_path)
    for log in LOGS:
        first, *later = (criustats.read(tmp_path / "out" / log / f"{n}.stats") for n in (1, 2, 3))
        for dump in later:
            assert dump["scanned"] < first["scanned"] / 2
            assert dump["skipped"] > first["scanned"] / 2


def test_checkpoint_and_restore(vm):
    """ooh checkpoint is killed with a criu half way; ooh restore brings the
    last complete one back."""
    # changers ends with its parent, which ooh is in the beginning and criu at last
    writer = "mawk 'BEGIN { for (;;) { i++; a[i % 5000] = i } }'"
    out = vm.good(
        f"ooh checkpoint -e 0.3 -l 4 d -- {writer} >log & c=$!; until grep -q 'checkpoint 3' log; "
        "do sleep 0.1; done;"
        "kill -KILL $c; sleep 2; p=$(sed -n 's/^process //p' log); kill -KILL $p; sleep 0.5; ls d; "
        "ooh restore d;"
        "sleep 0.3; cat /proc/$p/comm; ooh checkpoint -e 0.1 -n 1 d -p $p; kill -KILL $p; "
        "sleep 0.5; ooh restore d; "
        "ooh restore d 2>&1 && echo twice; "
        "unshare --pid --fork --mount-proc sh -c \"ooh restore d; cat /proc/$p/comm\"; "
        "kill -KILL $p",
        timeout=200)
    assert len(re.findall(r"^checkpoint \d+: process \d+$", out, re.M)) == 3
    # a second one beside it needs numbers of its own
    assert "is alive, and the restored one needs its number" in out and "twice" not in out
    assert out.count("mawk\n") == 2
