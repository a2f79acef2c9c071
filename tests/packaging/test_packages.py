# SPDX-License-Identifier: GPL-2.0-only
"""The packages: built in a root of a release, installed in a clean one, used there, removed."""

import json
import os

import pytest
from conftest import LONG, long
from packlib import TOP, VERSION, Release, output

# A cold cache has roots of two releases made, and CRIU takes its time on a busy machine.
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a chroot, mounts"),
    pytest.mark.timeout(3600),
]

# Writes to each of 64 pages, again and again.
WRITER = ["perl", "-e", '$x = "a" x (1 << 20); for (;;) { substr($x, $_ << 12, 1) = chr(rand 256) '
          'for 0 .. 63; select(undef, undef, undef, 0.01) }']
# All that is there, but for what apt and the kernel keep, and what lies in the way here.
ALL = """find / -xdev \\( -path /proc -o -path /dev -o -path /run -o -path /tmp -o -path /mnt -o \\
    -path /ooh -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/cache \\
    \\) -prune -o -print; cat /etc/group"""
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture(scope="module", params=["trixie", long("bookworm")])
def release(request, tmp_path_factory):
    return Release(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def machine(release):
    """With the packages that a machine without a hypervisor of ours needs; what it was before."""
    root = release.clean("machine")
    before = root.sh(ALL)
    root.apt("./ooh_*.deb ./libooh*.deb")
    return root, set(before.splitlines())


def test_lintian(release):
    """Neither errors nor warnings."""
    release.packager.lintian("/mnt/deb")


def test_one_package_is_enough(release):
    """The command needs no other package of ours."""
    needs = output("dpkg-deb", "-f", *release.debs.glob("ooh_*.deb"), "Depends")
    assert "libjansson4" in needs and "ooh" not in needs


def test_version(machine):
    assert machine[0].run("ooh", "--version") == f"ooh {VERSION}\n"


def test_doctor(machine):
    assert machine[0].run("ooh", "doctor").startswith("ooh works here by ")


def test_top(machine):
    """The written pages, not all that is mapped. (The writer may get no processor in a round.)"""
    out = machine[0].run("ooh", "top", "--json", "-i", 1000, "-n", 4, "--", *WRITER)
    rounds = [json.loads(line)["processes"][0] for line in out.splitlines()]
    assert len(rounds) == 4 and max(r["written"] for r in rounds) >= 64, out[-2000:]
    assert min(r["written"] / r["mapped"] for r in rounds) < 0.5, out[-2000:]


def test_record_as_another_user(machine):
    """Who is not root can track a program of theirs."""
    out = machine[0].run(*NOBODY, "ooh", "record", "--json", "-i", 1000, "-n", 4, "--", *WRITER)
    rounds = [json.loads(line) for line in out.splitlines()]
    assert len(rounds) == 4 and max(r["written"] for r in rounds) >= 64, out[-2000:]


def test_verify(machine):
    out = machine[0].run("ooh", "verify", "--json", "-n", 3, "-i", 1000, "--", *WRITER)
    total = json.loads(out)["total"]
    assert total["missed"] == 0 and total["changed"] >= 64


def test_manual(machine):
    for page in ("1 ooh", "7 ooh", "3 ooh_open", "3 ooh_close"):
        assert "ooh" in machine[0].sh(f"man -w {page}")


def test_completion(machine):
    """Found where the shell looks for it."""
    machine[0].sh("""bash -c 'source /usr/share/bash-completion/bash_completion
        _completion_loader ooh || _comp_load ooh; complete -p ooh'""")


def test_group_rule_and_unit(machine):
    root = machine[0]
    assert root.sh("getent group ooh").startswith("ooh:")
    assert 'GROUP="ooh"' in root.sh("cat /usr/lib/udev/rules.d/60-ooh.rules")
    root.sh("""mkdir -p /run/systemd/system
        printf '[Service]\\nExecStart=/bin/true\\n' >/run/systemd/system/other.service
        systemd-analyze verify ooh-checkpoint@other.service 2>&1 | (! grep ooh-checkpoint)""")


def test_a_program_with_the_library(release):
    """By pkg-config, with a shared library that lies where the release has its own."""
    release.packager.sh("""dpkg -i /mnt/deb/libooh*.deb >/dev/null; cd /tmp
        cc /ooh/libooh/examples/other.c $(pkg-config --cflags --libs libooh)
        ldd ./a.out | grep -q 'libooh.so.0 => /lib/x86_64-linux-gnu'
        dpkg -P libooh-dev libooh0 >/dev/null""")


def test_nothing_is_left(release, machine):
    """After the packages, and what came with them, are purged."""
    root, before = machine
    root.sh("""apt-get -qq -y purge ooh libooh0 libooh-dev >/dev/null
        apt-get -qq -y autoremove --purge >/dev/null""")
    assert set(root.sh(ALL).splitlines()) == before


@LONG
def test_everything_that_is_called_ooh(release):
    """apt install ./ooh*.deb, as docs/install.md has it, the module with it."""
    root = release.clean("all")
    root.run("apt-get", "-qq", "update")
    root.apt("./ooh*.deb")
    assert root.run("ooh", "doctor").startswith("ooh works here by ")
    assert "ooh/" in root.run("dkms", "status")


@LONG
def test_module(release):
    """DKMS builds it for the release's kernel, signed, and takes it away again."""
    root = release.packager
    root.run("dpkg", "-i", *(f"/mnt/deb/{deb.name}" for deb in release.debs.glob("ooh-dkms*")))
    kernel = root.sh("ls /usr/src | sed -n 's/^linux-headers-\\(.*-amd64\\)$/\\1/p'").split()[0]
    root.sh(f"dkms status | grep -q {kernel} || dkms install ooh/{VERSION} -k {kernel}")
    module = root.sh(f"find /lib/modules/{kernel} -name 'ooh.ko*'").split()
    assert len(module) == 1
    info = root.run("modinfo", *module)
    for line in (f"version:        {VERSION}", "alias:          pci:v00001234d000011EA", "signer:"):
        assert f"\n{line}" in info
    assert root.sh("cat /usr/lib/modules-load.d/ooh.conf").endswith("\nooh\n")
    root.run("dpkg", "-P", "ooh-dkms")
    assert not root.sh("find /lib/modules /var/lib/dkms /usr/src -name '*ooh*'")


@pytest.fixture(scope="module")
def upstreams(release):
    """The packages of CRIU and bdwgc, too."""
    root = release.packager
    for name, series in (("criu", "criu-plugin/patches"), ("libgc", "boehm-backend/patches")):
        output(TOP / "scripts/patches", "import", series, root.folder / "mnt" / name)
        root.run("/ooh/packaging/build-deb", "/mnt/upstreams", name, f"/mnt/{name}", timeout=3000)
    return root.folder / "mnt/upstreams"


@LONG
def test_lintian_of_the_upstreams(release, upstreams):
    release.packager.lintian("/mnt/upstreams")


@LONG
def test_criu_and_its_plugin(release, upstreams):
    """In place of the distribution's: the plugin is at work, and ooh checkpoint uses it."""
    root = release.clean("criu")
    root.put(upstreams.glob("ooh-criu*.deb"))
    root.run("apt-get", "-qq", "update")
    root.apt("./ooh_*.deb ./ooh-criu*.deb")
    # a kernel without soft-dirty bits has no other way
    out = root.sh("OOH_BACKEND=pagemap-scan criu check --feature mem_dirty_track 2>&1")
    assert "Memory is tracked by ooh_plugin" in out and "mem_dirty_track is supported" in out
    assert "ooh-criu" in root.run("man", "-w", "ooh-criu")
    root.sh("ooh checkpoint -e 1 -n 2 -b pagemap-scan /root/chain -- sleep 1000")
    assert len(root.sh("ls /root/chain/*/complete").split()) == 2


@LONG
def test_collector(release, upstreams):
    """A program of the distribution's runs with it, and finds libooh."""
    root = release.clean("libgc")
    root.put(upstreams.glob("libgc1*.deb"))
    root.run("apt-get", "-qq", "update")
    root.apt("w3m ./libgc1*.deb ./libooh0*.deb")
    lib = "/usr/lib/x86_64-linux-gnu/libgc.so.1"
    assert root.sh(f"dpkg -S $(readlink -f {lib})").startswith("libgc1-ooh:")
    out = root.sh("""echo '<b>bold</b>' >/tmp/x.html
        GC_ENABLE_INCREMENTAL=1 GC_PRINT_STATS=1 w3m -dump /tmp/x.html 2>&1""")
    assert "Using OoH, backend " in out and "\nbold\n" in out, out[-2000:]


@LONG
def test_rpm(release):
    """Built of the tarball, installed, used and erased. rpm's list of what is installed is empty on
    Debian, so dependencies are not asked for."""
    root = release.packager
    output("make", "-s", "-C", TOP, "dist", f"BUILD={root.folder}/mnt/dist")
    root.sh("""rpmbuild -ta --nodeps --define '_topdir /mnt/rpm' /mnt/dist/ooh-*.tar.xz \\
        >/mnt/rpm.log 2>&1 || { tail -n 30 /mnt/rpm.log; exit 1; }""")
    names = "ooh libooh libooh-devel ooh-dkms"
    root.sh(f"for n in {names}; do rpm --nodeps -i /mnt/rpm/RPMS/*/$n-{VERSION}-*.rpm; done")
    assert root.run("ooh", "--version") == f"ooh {VERSION}\n"
    assert root.run("ooh", "doctor").startswith("ooh works here by ")
    assert root.sh("getent group ooh").startswith("ooh:")
    assert f"ooh/{VERSION}" in root.run("dkms", "status")
    root.sh(f"rpm --nodeps -V {names}")
    root.sh(f"rpm --nodeps -e {names}")
    assert not root.sh("""find / -xdev \\( -path /proc -o -path /ooh -o -path /mnt \\) -prune -o \\
        -name '*ooh*' ! -name '*bluetooth*' -print""")
