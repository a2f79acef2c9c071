# SPDX-License-Identifier: GPL-2.0-only
"""What the patches for CRIU mend, each by itself, and the plugin with a criu that is not ours."""

import pytest
from conftest import LOGS, TOP

TESTS = "/usr/lib/ooh/tests"
PLUGIN = "/usr/lib/criu/ooh_plugin.so"
GC = "/usr/lib/ooh/gc"
ROUND = TOP / "tests" / "guest" / "criu-round"


def test_the_plugin_stays_out_of_a_criu_that_has_other_hooks(vm):
    """As CRIU's development branch: our hooks are never called, its options never read."""
    r = vm.exec(f"{TESTS}/criu_tip", PLUGIN)
    assert r.returncode == 0, r.stdout + r.stderr
    assert "lacks the patches of OoH" in r.stdout and "ok: left alone" in r.stdout


def test_criu_without_patches_goes_on_with_the_plugin_installed(vm):
    """The distribution's source as it is: it dumps by soft-dirty bits and restores."""
    r = vm.sh(f"OOH_CRIU=/usr/lib/ooh/criu-unpatched ./criu-round -n 2 d {TESTS}/changers store; "
              "rc=$?;"
              "grep -h -o 'ooh_plugin: .*' d/*/log; exit $rc", into=[ROUND])
    assert r.returncode == 0, r.stdout + r.stderr
    assert "same memory" in r.stdout
    assert r.stdout.count("lacks the patches of OoH") == 3


@pytest.mark.parametrize("way", ["stock", *LOGS])
def test_a_page_of_anothers_userfaultfd_is_not_waited_for(vm, way):
    """Pages are discarded; who would provide them is stopped. Neither the dump
    nor the process hangs."""
    plugins = "CRIU_LIBS_DIR=/none" if way == "stock" else f"OOH_BACKEND={way}"
    r = vm.sh(f"""mkdir -p /none 1 2; export {plugins}
        setsid {TESTS}/uffd_away ready served </dev/null >/dev/null 2>&1 & s=$!
        until [ -s ready ]; do sleep 0.1; done; p=$(cat ready)
        criu pre-dump --track-mem -t $p -D 1 -o log -v4 || exit 3
        rm ready; kill -USR1 $p; until [ -s ready ]; do sleep 0.1; done
        x=$(cat served); kill -STOP $s
        timeout -s KILL 60 criu pre-dump --track-mem -t $p -D 2 --prev-images-dir ../1 -o log -v4
        echo "status $?"
        sed -n 's/^State:[^A-Z]*/state /p' /proc/$p/status; kill -CONT $s; sleep 0.3
        echo "asked for $(($(cat served) - x))"; grep -h -o 'ooh_plugin: .*' 2/log
        kill -KILL $p $s""")
    out = r.stdout
    assert "status 0\n" in out and "state S" in out and "asked for 0\n" in out, out + r.stderr
    assert way == "stock" or "has written to" in out


@pytest.mark.parametrize("predump", [False, True])
def test_a_truncated_image_ends_a_restore(vm, predump):
    """Read by the restorer (one image), and by criu itself (a chain). Neither tries for ever."""
    pre = ("criu pre-dump -t $p -D 1 -o log --track-mem || exit 3; cut=1; "
           "more='--track-mem --prev-images-dir ../1';" if predump else "")
    r = vm.sh(f"""mkdir 1 2; setsid {TESTS}/changers store </dev/null >/dev/null 2>&1 & p=$!
        sleep 0.5; cut=2; more=
        {pre} criu dump -t $p -D 2 -o log $more || exit 3; wait $p 2>/dev/null
        f=$(echo $cut/pages-*.img); truncate -s $(($(stat -c %s $f) / 2)) $f
        timeout -s KILL 60 criu restore -d -D 2 -o rlog; echo "status $?"; grep Error 2/rlog
        kill -KILL $p 2>/dev/null""")
    assert "status 1\n" in r.stdout, r.stdout + r.stderr
    assert "The image of pages ends at" in r.stdout


@pytest.mark.parametrize("log", LOGS)
def test_a_collector_is_dumped_and_restored(vm, log):
    """A program that tracks itself by /dev/ooh: after the restore everything is dirty
    once, and nothing is lost."""
    r = vm.sh(f"""export GC_ENABLE_INCREMENTAL=1 GC_PRINT_STATS=1 GC_USE_OOH={log}
        export LD_LIBRARY_PATH={GC}/threads
        setsid {GC}/gcbench 15 </dev/null >out 2>&1 & p=$!; unset LD_LIBRARY_PATH
        for i in 1 2 3; do sleep 0.5; mkdir $i
        criu dump -t $p -D $i -o log -v4 || {{ grep Error $i/log; exit 3; }}; wait $p 2>/dev/null
        ls $i | grep ooh-device; ls /proc/$p 2>/dev/null && exit 4
        criu restore -d -D $i -o rlog || {{ grep Error $i/rlog; exit 5; }}; done
        ls -l /proc/$p/fd; for i in $(seq 1200); do kill -0 $p 2>/dev/null || break; sleep 0.1
        done; cat out""", timeout=400)
    assert r.returncode == 0, r.stdout + r.stderr
    out = r.stdout
    assert out.count("ooh-device-") == 3
    assert "gcbench: intact" in out and f"Using OoH, backend {log} " in out
    assert "OoH failed" not in out


def test_a_collector_by_userfaultfd_is_refused_in_words(vm):
    r = vm.sh(f"""export GC_ENABLE_INCREMENTAL=1 GC_USE_OOH=pagemap-scan
        setsid {GC}/gcbench 16 </dev/null >out 2>&1 & p=$!; sleep 1
        mkdir 1; criu dump -t $p -D 1 -o log; echo "status $?"; grep ooh_plugin 1/log
        kill -KILL $p""")
    assert "status 1\n" in r.stdout
    assert "start it with GC_USE_OOH=0" in r.stdout
