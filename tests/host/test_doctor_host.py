# SPDX-License-Identifier: GPL-2.0-only
"""ooh doctor: what works here, or the first thing in the way."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hostlib import HERE, LIB, OOH, TOP, backends, compile_c, ooh

UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def document(*args, status=0):
    r = ooh("doctor", "--json", *args)
    assert r.returncode == status, r.stderr
    return json.loads(r.stdout)


def best():
    return next((b for b in backends().values() if b["usable"]), None)


@pytest.fixture
def command(tmp_path):
    """The command with its library in a folder that every user can read."""
    for path in (Path(OOH), (LIB / "libooh.so.0").resolve()):
        shutil.copy(path, tmp_path / ("ooh" if path == Path(OOH) else "libooh.so.0"))
    # how many there are of pytest's own depends on how many processes run the tests
    for d in (tmp_path, *tmp_path.parents):
        if d.stat().st_uid == os.getuid() and not d.stat().st_mode & 0o001:
            d.chmod(0o755)
    return tmp_path / "ooh"


def with_device(command, mode, user=()):
    """ooh doctor where /dev/ooh is a file of root's; nobody else sees that one."""
    script = """mount -t tmpfs -o mode=755 none /dev && : >/dev/ooh && chmod "$1" /dev/ooh &&
        shift && exec "$@" """
    r = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", mode,
                        *user, command, "doctor", "--json"],
                       capture_output=True, text=True, timeout=60)
    assert r.stdout, r.stderr
    return json.loads(r.stdout)


def test_the_first_thing_in_the_way(tmp_path):
    p = compile_c(tmp_path / "u", HERE / "unit_machine.c", TOP / "libooh/cmd/machine.c")
    r = subprocess.run([p], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout


def test_the_answer_comes_first():
    r, b = ooh("doctor"), best()
    if b:
        assert r.returncode == 0
        assert r.stdout.startswith(f"ooh works here by {b['name']}: {b['reason']}.\n")
    else:
        assert r.returncode == 3 and r.stdout.startswith("ooh does not work here: ")
    assert r.stderr == ""


def test_it_agrees_with_backends():
    b = best()
    d = document(status=0 if b else 3)
    assert d["works"] == bool(b) and d["backend"] == (b and b["name"])
    assert {x["name"]: x for x in d["backends"]} == backends()
    assert d["log"]["usable"] == backends()["spml"]["usable"]
    assert bool(d["log"]["obstacle"]) != d["log"]["usable"]


@pytest.mark.parametrize("name", ["epml", "spml", "pagemap-scan", "uffd-wp", "soft-dirty"])
def test_of_one_backend(name):
    usable = backends()[name]["usable"]
    d = document("-b", name, status=0 if usable else 3)
    assert d["works"] == usable and d["backend"] == (name if usable else None)
    begins = f"ooh works here by {name}: " if usable else f"{name} does not work here: "
    assert ooh("doctor", "-b", name).stdout.startswith(begins)


def test_of_no_backend():
    r = ooh("doctor", "-b", "magic")
    assert r.returncode == 2 and "magic" in r.stderr and r.stdout == ""


@pytest.mark.skipif(os.geteuid() != 0 or os.path.exists("/dev/ooh"),
                    reason="needs root, and no /dev/ooh")
class TestDevice:
    def test_absent(self):
        d = document(status=0 if best() else 3)
        assert d["log"]["obstacle"] not in ("permission", "version")

    def test_of_another_user(self, command):
        assert with_device(command, "600", UNPRIVILEGED)["log"]["obstacle"] == "permission"

    def test_not_the_modules(self, command):
        """A file that opens and is no device of ours: the library's reason."""
        log = with_device(command, "666")["log"]
        assert log["obstacle"] == "version" and "does not answer" in log["what"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_a_user_learns_whom_they_can_track(command):
    r = subprocess.run([*UNPRIVILEGED, command, "doctor", "--json"], capture_output=True, text=True,
                       timeout=60)
    assert json.loads(r.stdout)["others"].startswith("As this user: "), r.stderr
    assert json.loads(ooh("doctor", "--json").stdout)["others"] is None
