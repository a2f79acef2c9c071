# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages: built in a root of a release, installed in a clean one, used there, and removed."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import LONG, long

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build"))
VERSION = subprocess.run([TOP / "scripts/version"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a chroot, mounts")
SUITES = ["trixie", long("bookworm")]

# Writes to each of 64 pages, again and again.
WRITER = ["perl", "-e", '$x = "a" x (1 << 20); $| = 1; print "ready\\n"; for (;;) { substr($x, $_ << 12, 1) = chr(rand 256) '
          'for 0 .. 63; select(undef, undef, undef, 0.01) }']
LEFT = "find / -xdev \\( -path /proc -o -path /dev -o -path /run -o -path /tmp -o -path /mnt -o -path /ooh -o -path /var/log " \
       "-o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/cache \\) -prune -o -print | sort; cat /etc/group"


class Root:
    """A root file system of the cache, with what is written to it in a folder of its own."""

    def __init__(self, lower, folder):
        self.lower, self.folder = lower, folder
        (folder / "mnt").mkdir(parents=True)

    def run(self, *argv, timeout=600, status=0):
        r = subprocess.run([TOP / "tests/packaging/in-root", self.lower, self.folder, *map(str, argv)],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        assert r.returncode == status, f"{argv} ended with {r.returncode}:\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
        return r.stdout

    def sh(self, script, **kw):
        return self.run("sh", "-ec", script, **kw)


class Release:
    def __init__(self, suite, folder):
        env = {**os.environ, "OOH_BUILD": str(BUILD)}
        r = subprocess.run([TOP / "testbed/build", "packaging", suite], env=env, stderr=subprocess.PIPE, text=True)
        assert r.returncode == 0, r.stderr[-3000:]
        at = {name: (BUILD / "testbed" / name).resolve() for name in (f"packaging-{suite}", f"clean-{suite}", "root")}
        layer = at[f"packaging-{suite}"] / "layer"
        self.folder = folder
        self.packager = Root(f"{layer}:{at['root']}" if layer.exists() else str(layer.with_name("root")), folder / "build")
        self.packager.run("/ooh/packaging/build-deb", "/mnt/deb")
        self.debs = folder / "build/mnt/deb"
        self.lower = str(at[f"clean-{suite}"] / "root")

    def clean(self, name):
        """A machine that has nothing of ours, with the packages at /mnt."""
        root = Root(self.lower, self.folder / name)
        for deb in self.debs.glob("*.deb"):
            os.link(deb, root.folder / "mnt" / deb.name)
        return root


@pytest.fixture(scope="module", params=SUITES)
def release(request, tmp_path_factory):
    return Release(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def machine(release):
    """With the packages that a machine without a hypervisor of ours needs, and what it was before."""
    root = release.clean("machine")
    before = root.sh(LEFT)
    root.sh("cd /mnt && apt-get -qq -y install ./ooh_*.deb ./libooh*.deb >/dev/null")
    return root, before


def test_lintian(release):
    """Neither errors nor warnings."""
    release.packager.sh("lintian --allow-root --fail-on error,warning /mnt/deb/*.changes", timeout=900)


def test_one_package_is_enough(release):
    """The command needs no other package of ours."""
    out = subprocess.run(["dpkg-deb", "-f", *release.debs.glob("ooh_*.deb"), "Depends"], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    assert "libjansson4" in out and "ooh" not in out


def test_version(machine):
    assert machine[0].run("ooh", "--version") == f"ooh {VERSION}\n"


def test_doctor(machine):
    assert machine[0].run("ooh", "doctor").startswith("ooh works here by ")


def test_top(machine):
    """Each round has the pages that were written, and not all that is mapped."""
    rounds = [json.loads(line) for line in
              machine[0].run("ooh", "top", "--json", "-i", 500, "-n", 3, "--", *WRITER).splitlines()]
    processes = [r["processes"][0] for r in rounds]
    assert len(rounds) == 3 and all(64 <= p["written"] < p["mapped"] / 2 for p in processes[1:]), processes


def test_record_as_another_user(machine):
    """Who is not root can track a program of theirs."""
    out = machine[0].run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ooh", "record", "--json",
                         "-i", 300, "-n", 3, "--", *WRITER)
    rounds = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert len(rounds) == 3 and rounds[-1]["written"] >= 64


def test_verify(machine):
    found = json.loads(machine[0].run("ooh", "verify", "--json", "-n", 3, "-i", 300, "--", *WRITER))
    assert found["total"]["missed"] == 0 and found["total"]["changed"] >= 64


def test_manual(machine):
    root = machine[0]
    for page in ("1 ooh", "7 ooh", "3 ooh_open", "3 ooh_close"):
        assert "ooh" in root.sh(f"man -w {page}")
    assert "complete" in root.sh("bash -c 'source /usr/share/bash-completion/bash_completion; _completion_loader ooh "
                                 "|| _comp_load ooh; complete -p ooh'")


def test_group_rule_and_unit(machine):
    root = machine[0]
    assert root.sh("getent group ooh").startswith("ooh:")
    assert 'GROUP="ooh"' in root.sh("cat /usr/lib/udev/rules.d/60-ooh.rules")
    root.sh("mkdir -p /run/systemd/system; printf '[Service]\\nExecStart=/bin/true\\n' >/run/systemd/system/other.service; "
            "systemd-analyze verify ooh-checkpoint@other.service 2>&1 | (! grep ooh-checkpoint)")


def test_a_program_with_the_library(release):
    """By pkg-config, with a shared library that lies where the release has its own."""
    root = release.packager
    root.sh("dpkg -i /mnt/deb/libooh*.deb >/dev/null; cd /tmp; cp /usr/share/doc/libooh-dev/examples/other.c . || "
            "cp /ooh/libooh/examples/other.c .; cc other.c $(pkg-config --cflags --libs libooh); "
            "ldd ./a.out | grep -q 'libooh.so.0 => /lib/x86_64-linux-gnu'; dpkg -P libooh-dev libooh0 >/dev/null")


def test_nothing_is_left(release, machine):
    """After the packages, and what came with them, are purged."""
    root, before = machine
    root.sh("apt-get -qq -y purge ooh libooh0 libooh-dev >/dev/null; apt-get -qq -y autoremove --purge >/dev/null")
    gone = set(before.splitlines()) ^ set(root.sh(LEFT).splitlines())
    assert not {line for line in gone if "ooh" in line or "jansson" in line}, gone
    assert not gone, gone


@LONG
def test_everything_that_is_called_ooh(release):
    """apt install ./ooh*.deb, as the README has it, the module with it."""
    root = release.clean("all")
    root.sh("cd /mnt && apt-get -qq update && apt-get -qq -y install ./ooh*.deb >/dev/null", timeout=1800)
    assert root.run("ooh", "doctor").startswith("ooh works here by ")
    assert "ooh/" in root.run("dkms", "status")


@LONG
def test_module(release):
    """DKMS builds it for the release's kernel, signed, and takes it away again."""
    root = release.packager
    root.sh("dpkg -i /mnt/deb/ooh-dkms*.deb", timeout=1800)
    kernel = root.sh("ls /usr/src | sed -n 's/^linux-headers-\\(.*-amd64\\)$/\\1/p'").split()[0]
    root.sh(f"dkms status | grep -q {kernel} || dkms install ooh/{VERSION} -k {kernel}", timeout=1800)
    module = root.sh(f"find /lib/modules/{kernel} -name 'ooh.ko*'").split()
    assert len(module) == 1
    info = root.run("modinfo", *module)
    assert f"version:        {VERSION}\n" in info and "alias:          pci:v00001234d000011EA" in info
    assert "signer:" in info
    assert root.sh("cat /usr/lib/modules-load.d/ooh.conf").endswith("\nooh\n")
    root.sh("dpkg -P ooh-dkms")
    assert not root.sh("find /lib/modules /var/lib/dkms /usr/src -name '*ooh*'")


@pytest.fixture(scope="module")
def upstreams(release):
    """The packages of CRIU and bdwgc, too."""
    for name, series in (("criu", "criu-plugin/patches"), ("libgc", "boehm-backend/patches")):
        tree = release.packager.folder / "mnt" / name
        subprocess.run([TOP / "scripts/patches", "import", series, tree], check=True, timeout=600)
        release.packager.run("/ooh/packaging/build-deb", "/mnt/upstreams", name, f"/mnt/{name}", timeout=3600)
    return release.packager.folder / "mnt/upstreams"


@LONG
def test_lintian_of_the_upstreams(release, upstreams):
    release.packager.sh("lintian --allow-root --fail-on error,warning /mnt/upstreams/*.changes", timeout=900)


@LONG
def test_criu_and_its_plugin(release, upstreams):
    """In place of the distribution's: the plugin is at work, and ooh checkpoint uses it."""
    root = release.clean("criu")
    for deb in upstreams.glob("ooh-criu*.deb"):
        os.link(deb, root.folder / "mnt" / deb.name)
    root.sh("cd /mnt && apt-get -qq update && apt-get -qq -y install ./ooh_*.deb ./ooh-criu*.deb >/dev/null", timeout=1800)
    # a kernel without soft-dirty bits has no other way
    out = root.sh("OOH_BACKEND=pagemap-scan criu check --feature mem_dirty_track 2>&1")
    assert "Memory is tracked by ooh_plugin" in out and "mem_dirty_track is supported" in out
    assert "ooh-criu" in root.run("man", "-w", "ooh-criu")
    root.sh("ooh checkpoint -e 1 -n 2 -b pagemap-scan /root/chain -- sleep 1000")
    assert root.sh("ls /root/chain/*/complete").split() == [f"/root/chain/00000{n}/complete" for n in (1, 2)]


@LONG
def test_collector(release, upstreams):
    """A program of the distribution's runs with it, and finds libooh."""
    root = release.clean("libgc")
    for deb in (*upstreams.glob("libgc1*.deb"), *release.debs.glob("libooh0*.deb")):
        if not (root.folder / "mnt" / deb.name).exists():
            os.link(deb, root.folder / "mnt" / deb.name)
    root.sh("cd /mnt && apt-get -qq update && apt-get -qq -y install w3m ./libgc1*.deb ./libooh0*.deb >/dev/null", timeout=1800)
    out = root.sh("ldd /usr/bin/w3m; dpkg -S $(readlink -f /usr/lib/x86_64-linux-gnu/libgc.so.1); echo '<b>bold</b>' >/tmp/x.html; "
                  "GC_ENABLE_INCREMENTAL=1 GC_PRINT_STATS=1 w3m -dump /tmp/x.html 2>&1")
    assert "libgc.so.1" in out and "libgc1-ooh" in out and "bold" in out
    assert "Using OoH, backend " in out, out[-2000:]


@LONG
def test_rpm(release):
    """Built of the tarball, installed, used and erased. rpm's list of what is installed is empty on
    Debian, so dependencies are not asked for."""
    root = release.packager
    subprocess.run(["make", "-s", "-C", TOP, "dist", f"BUILD={root.folder}/mnt/dist"], check=True, timeout=600)
    root.sh("rpmbuild -ta --nodeps --define '_topdir /mnt/rpm' /mnt/dist/ooh-*.tar.xz >/mnt/rpm.log 2>&1 || "
            "{ tail -n 30 /mnt/rpm.log; exit 1; }", timeout=1800)
    names = "ooh libooh libooh-devel ooh-dkms"
    root.sh(f"cd /mnt/rpm/RPMS; for n in {names}; do rpm --nodeps -i */$n-{VERSION}-*.rpm; done", timeout=1800)
    assert root.run("ooh", "--version") == f"ooh {VERSION}\n"
    assert root.run("ooh", "doctor").startswith("ooh works here by ")
    assert root.sh("getent group ooh").startswith("ooh:")
    assert f"ooh/{VERSION}" in root.run("dkms", "status")
    root.sh(f"rpm --nodeps -V {names}")
    root.sh(f"rpm --nodeps -e {names}")
    assert root.sh("find / -xdev \\( -path /proc -o -path /ooh -o -path /mnt \\) -prune -o -name '*ooh*' -print "
                   "| grep -v bluetooth || :") == ""
