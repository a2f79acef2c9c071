# SPDX-License-Identifier: GPL-2.0-only
"""The machine is set back to a snapshot.

A dump's parent images are from the time after that snapshot."""

import base64

import pytest
from conftest import LONG

CRIU = "criu {} -t $(cat pid) -D {} -o log -v4 --track-mem {} 2>/dev/null"
IN = "cd /tmp/rollback; export GLIBC_TUNABLES=glibc.pthread.rseq=0; "
ROOM = ("mkdir -p /tmp/room; grep -q ' /tmp/room ' /proc/mounts || "
        "mount -t tmpfs -o size=500m room /tmp/room; ")


@LONG
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("log", ["epml", "spml"])
def test_images_of_an_abandoned_future(machines, tmp_path, log):
    m = machines("migrate")
    backend = f"export OOH_BACKEND={log}; "
    try:
        m.good("rm -rf /tmp/rollback; mkdir -p /tmp/rollback/1; " + IN + backend +
               "setsid /usr/lib/ooh/tests/roomy 1 </dev/null >/dev/null 2>&1 & "
               "echo $! >/tmp/rollback/pid; sleep 1; cd /tmp/rollback; " +
               f"export OOH_BACKEND={log}; " + CRIU.format("pre-dump", "1", ""))
        r = m.dom0(ROOM + "xl save -c guest /tmp/room/saved", timeout=900)
        assert r.returncode == 0, r.stdout + r.stderr
        out = m.good(IN + backend + "mkdir 2; sleep 3; " +
                     CRIU.format("pre-dump", "2", "--prev-images-dir ../1") +
                     " && tar -czf - 2 | base64")
        (tmp_path / "future.tgz").write_bytes(base64.b64decode(out))
        r = m.dom0("xl destroy guest; xl restore /tmp/room/saved", timeout=900)
        assert r.returncode == 0, r.stdout + r.stderr
        # of the 300 pages that the future has, 100 are written again before the
        # process is dumped on its images
        r = m.sh("tar -xzf future.tgz -C /tmp/rollback; " + IN + backend +
                 "sleep 1; p=$(cat pid); kill -STOP $p; sleep 0.2;"
                 "sum=/usr/lib/ooh/tests/memsum; $sum $p >before; mkdir 3; " +
                 CRIU.format("dump", "3", "--prev-images-dir ../2") +
                 "; echo dump $?; grep 'ooh_plugin: .*dirty' 3/log; "
                 "criu restore -d -D 3 -o rlog -v4; $sum $p >after; kill -KILL $p;"
                 "cmp before after && echo same memory", into=[tmp_path / "future.tgz"])
        assert "dump 0" in r.stdout and "same memory" in r.stdout, r.stdout + r.stderr
        assert "of a future that this machine did not have" in r.stdout
    finally:
        m.dom0("umount /tmp/room")
        m.sh("pkill -KILL -x roomy; pkill -x ooh-holder")
