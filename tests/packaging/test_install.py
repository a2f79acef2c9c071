# SPDX-License-Identifier: GPL-2.0-only
"""What make, make install, make uninstall and make dist do on a machine of a stranger's."""

import os
import re
import subprocess
import tarfile

import pytest
from packlib import TOP, VERSION, output

EXPECTED = f"""bin/ooh include/ooh.h
lib/libooh.a lib/libooh.so lib/libooh.so.0 lib/libooh.so.{VERSION} lib/pkgconfig/libooh.pc
lib/systemd/system/ooh-checkpoint@.service lib/sysusers.d/ooh.conf lib/udev/rules.d/60-ooh.rules
share/bash-completion/completions/ooh share/man/man1/ooh.1 share/man/man3/ooh_open.3
share/man/man7/ooh.7""".split()
MANAGERS = "apt apt-get apt-cache aptitude dpkg dpkg-query dnf yum rpm zypper pacman"


def files(root):
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_symlink() or not p.is_dir()}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make with a build folder of its own, where no package manager can be called unseen."""
    d = tmp_path_factory.mktemp("stranger")
    (d / "bin").mkdir()
    for name in MANAGERS.split():
        (d / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{d}/called\nexit 1\n')
        (d / "bin" / name).chmod(0o755)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OOH_", "MAKE", "MFLAGS"))}
    env["PATH"] = f"{d}/bin:{env['PATH']}"
    env["CFLAGS"] = "-O0"  # whether it builds, not how fast it is

    def run(*args, cwd=TOP, status=0):
        r = subprocess.run(["make", f"BUILD={d}/build", *args], cwd=cwd, env=env,
                           capture_output=True, text=True, timeout=600)
        assert r.returncode == status, r.stdout + r.stderr
        assert not (d / "called").exists(), (d / "called").read_text()
        return r

    run.env, run.build = env, d / "build"
    run()
    return run


@pytest.mark.parametrize("how", [["PREFIX=/opt/ooh"], ["prefix=/opt/ooh"]])
def test_install_and_uninstall(make, tmp_path, how):
    other = tmp_path / "opt/ooh/lib/other"
    other.parent.mkdir(parents=True)
    other.touch()
    make("install", f"DESTDIR={tmp_path}", *how)
    root = tmp_path / "opt/ooh"
    assert set(EXPECTED) <= files(root) and files(tmp_path) == {f"opt/ooh/{f}" for f in files(root)}
    assert output(root / "bin/ooh", "--version") == f"ooh {VERSION}\n"
    unit = root / "lib/systemd/system/ooh-checkpoint@.service"
    assert "/opt/ooh/bin/ooh checkpoint" in unit.read_text()
    make("uninstall", f"DESTDIR={tmp_path}", *how)
    assert files(tmp_path) == {"opt/ooh/lib/other"}


def test_other_folders(make, tmp_path):
    """A distribution's: libraries by architecture."""
    make("install", f"DESTDIR={tmp_path}", "prefix=/usr", "libdir=/usr/lib/x86_64-linux-gnu")
    lib = tmp_path / "usr/lib/x86_64-linux-gnu"
    assert files(lib) == {"libooh.a", "libooh.so", "libooh.so.0", f"libooh.so.{VERSION}",
                          "pkgconfig/libooh.pc"}
    env = {**make.env, "PKG_CONFIG_LIBDIR": lib / "pkgconfig", "PKG_CONFIG_SYSROOT_DIR": tmp_path,
           "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1"}
    assert output("pkg-config", "--libs", "libooh", env=env).split() == [f"-L{lib}", "-looh"]


def test_the_installed_command_needs_no_library_of_ours(make, tmp_path):
    make("install", f"DESTDIR={tmp_path}")
    needs = output("readelf", "-d", tmp_path / "usr/local/bin/ooh")
    assert "libjansson" in needs and "libooh" not in needs and not re.search("R(UN)?PATH", needs)


def test_what_is_missing_is_named(make, tmp_path):
    r = make("host", "PKG_CONFIG=false", f"BUILD={tmp_path}", status=2)
    assert "libjansson-dev" in r.stderr and "jansson-devel" in r.stderr


def test_dist_builds(make, tmp_path):
    make("dist")
    with tarfile.open(make.build / f"ooh-{VERSION}.tar.xz") as tar:
        tar.extractall(tmp_path)
    tree = tmp_path / f"ooh-{VERSION}"
    assert not (tree / ".git").exists()
    make("install", f"BUILD={tmp_path}/build", f"DESTDIR={tmp_path}/root", cwd=tree)
    assert set(EXPECTED) <= files(tmp_path / "root/usr/local")


def test_one_version():
    """That of the header, wherever a person or a package manager looks."""
    found = {
        "CHANGELOG.md": re.search(r"^## (\S+)", (TOP / "CHANGELOG.md").read_text(), re.M)[1],
        "debian": re.match(r"ooh \((\S+)\)", (TOP / "packaging/debian/changelog").read_text())[1],
        "rpm": re.search(r"^Version: (\S+)", (TOP / "packaging/ooh.spec").read_text(), re.M)[1],
    }
    for man in (*TOP.glob("libooh/man/*.[1-8]"), *TOP.glob("criu-plugin/*.7")):
        found[man.name] = re.search(r'^\.TH .*"libooh ([0-9.]+)"', man.read_text(), re.M)[1]
    numbers = {name: v if v.count(".") == 2 else f"{v}.0" for name, v in found.items()}
    assert set(numbers.values()) == {VERSION}, numbers


def complete(ooh, *words):
    """What the shell offers for the last word."""
    script = """source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _ooh "$1"; printf "%s\\n" "${COMPREPLY[@]}" """
    return set(output("bash", "-c", script, "bash", TOP / "packaging/ooh.bash-completion", ooh,
                      *words, timeout=60).split())


def test_completion(make):
    ooh = make.build / "host/usr/bin/ooh"
    subcommands = set(re.findall(r"^  ([a-z]+)  ", output(ooh, "--help"), re.M))
    assert {"backends", "doctor", "record", "top", "verify", "checkpoint", "restore"} <= subcommands
    assert complete(ooh, "") == subcommands | {"help", "--help", "--version"}
    assert complete(ooh, "ba") == {"backends"}
    for sub in subcommands:
        text = re.sub(r"(?m)^(Usage| or).*\n", "", output(ooh, sub, "--help"))
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= complete(ooh, sub, "--"), sub
    names = {line.split()[0] for line in output(ooh, "backends").splitlines()}
    assert complete(ooh, "record", "-b", "") == names
    assert complete(ooh, "verify", "--backend", "=", "") == names | {"none"}
    assert complete(ooh, "record", "--backend", "=", "page") == {"pagemap-scan"}
    assert str(os.getpid()) in complete(ooh, "top", "-p", "")
    # the options of another command are not ours
    assert not complete(ooh, "record", "--", "ls", "--")
