# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that people have: the module builds without a warning for the kernels of the last
release, of the guest's release and of its backports, with the compiler that built each of them;
and it tracks what it claims in guests that run the first and the last."""

import os
import re
import subprocess
from pathlib import Path

import judge
import pytest
from conftest import TOP, long

BUILD = Path(os.environ["OOH_BUILD"])
PARTS = BUILD / "testbed"
TESTS = "/usr/lib/ooh/tests"
SUITES = ["bookworm", "trixie", "trixie-backports"]
MACHINES = {"oldkernel": "bookworm", "newkernel": "trixie-backports"}
# what depends on compat.h: page tables, the page cache, huge pages, the interface
PROGRAMS = ["store", "mapping", "absent", "huge", "abi", "markers", "remapped", "many_mappings",
            "several"]
WAYS = ["threads", "map", "fork", "shared", "file", "huge"]
# the distribution's headers lack the vmlinux that this would be made from
NO_BTF = re.compile(r"Skipping BTF generation for \S+ due to unavailability of vmlinux\n")

pytestmark = pytest.mark.timeout(3000)


class Built:
    """What came of a build for a suite's kernel."""

    def __init__(self, suite, *options):
        name = "-".join([suite, *options]).replace("=", "-")
        self.suite, self.folder = suite, BUILD / "kernels" / name
        env = dict(os.environ)
        if suite == "trixie":
            self.release = next((PARTS / "root/usr/lib/modules").glob("*-amd64")).name
        else:
            r = subprocess.run([TOP / "testbed/build", "kernel", suite], capture_output=True,
                               text=True, timeout=1200)
            if r.returncode:
                raise RuntimeError(r.stderr)
            part = (PARTS / f"kernel-{suite}").resolve()
            self.release = (part / "release").read_text().strip()
            env["IN_ROOT_LAYER"] = str(part / "layer")
        make = ["make", "-s", "-C", "guest-kmod", f"O=/build/kernels/{name}",
                f"KDIR=/usr/src/linux-headers-{self.release}", *options]
        self.log = ""
        for goal in ("clean", "modules"):
            r = subprocess.run([TOP / "testbed/in-root", *make, goal], env=env,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=600)
            self.returncode, self.log = r.returncode, self.log + r.stdout
        self.module = self.folder / "ooh.ko"

    def info(self):
        """The lines that modinfo would show."""
        return re.findall(rb"(?:^|\0)([a-z_]+=[^\0]+)", self.module.read_bytes())


@pytest.fixture(scope="module")
def built():
    done = {}

    def build(suite):
        if suite not in done:
            done[suite] = Built(suite)
        return done[suite]

    return build


@pytest.mark.parametrize("suite", SUITES)
def test_builds_without_a_warning(built, suite):
    b = built(suite)
    assert b.returncode == 0, b.log[-3000:]
    assert NO_BTF.sub("", b.log) == ""
    info = b.info()
    assert any(i.startswith(f"vermagic={b.release} ".encode()) for i in info), info
    # the processor's log is in: its parameter is
    assert any(i.startswith(b"parm=epml_vmfunc:") for i in info)
    # nobody can make it report less than was written
    assert not any(i.startswith(b"parm=inject:") for i in info)
    # newer kernels give their interrupt to KVM's modules alone
    hooked = b"kvm_set_posted_intr_wakeup_handler" in b.module.read_bytes()
    assert hooked == (suite != "trixie-backports")


@pytest.mark.parametrize("option,parameters", [("DEBUG=1", {"inject", "epml_vmfunc"}),
                                               ("EPML=n", set()), ("XEN=n", set())])
def test_other_builds(option, parameters):
    """With faults for tests, which is what the guest has; with SPML alone; for kernels without
    Xen."""
    b = Built("trixie", option)
    assert b.returncode == 0 and NO_BTF.sub("", b.log) == "", b.log[-3000:]
    assert {i.split(b"=")[1].split(b":")[0].decode()
            for i in b.info() if i.startswith(b"parm=")} == parameters
    # what it would need of the kernel for hypercalls
    assert (b"xen_domain_type" in b.module.read_bytes()) == (option != "XEN=n")


@pytest.mark.parametrize("version,flags,good", [("5.19", [], False), ("6.1", [], True),
                                                ("7.3", [], True),
                                                ("7.4", [], False),
                                                ("7.4", ["-DOOH_UNTESTED_KERNEL"], True)])
def test_other_versions_are_refused(tmp_path, version, flags, good):
    header = TOP / "guest-kmod/compat/compat.h"
    for name in re.findall(r"#include <(.+)>", header.read_text()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    major, minor = version.split(".")
    (tmp_path / "linux/version.h").write_text(
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
        f"#define LINUX_VERSION_CODE KERNEL_VERSION({major}, {minor}, 0)\n")
    r = subprocess.run(["gcc", "-E", "-nostdinc", "-I", tmp_path, "-DCONFIG_X86_64",
                        *flags, header],
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (r.returncode == 0) == good, r.stderr
    assert good or "#error" in r.stderr


@pytest.fixture(scope="module", params=MACHINES)
def other(machines, built, request):
    """A guest with another kernel, and the module for that."""
    b = built(MACHINES[request.param])
    m = machines(request.param)
    r = m.exec("insmod", "./ooh.ko", into=[b.module])
    if r.returncode:
        raise RuntimeError(f"{request.param}: {r.stderr}{m.sh('dmesg | tail').stdout}")
    m.release = b.release
    yield m
    m.down()


def test_it_runs_that_kernel(other):
    assert other.good("uname -r").strip() == other.release


# what differs between kernels is below the logs: in make check each kernel has one of them for the
# programs, and the other one for the ways
BY_LOGS = pytest.mark.parametrize("turn", [0, long(1)], ids=["a-log", "the-other"])
LOGS_OF = {"oldkernel": ("spml", "epml"), "newkernel": ("epml", "spml")}


@BY_LOGS
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(other, program, turn):
    log = LOGS_OF[other.config][turn]
    r = other.exec("env", f"OOH_TESTED={log}", f"{TESTS}/{program}", timeout=600)
    assert r.returncode == 0, r.stdout + r.stderr
    assert "ok:" in r.stdout


@BY_LOGS
@pytest.mark.parametrize("way", WAYS)
def test_verify(other, way, turn):
    log = LOGS_OF[other.config][1 - turn]
    r = other.exec("ooh", "verify", "--json", "-b", log, "-n", "5", "-i", "50", "--",
                   f"{TESTS}/changers", way, timeout=600)
    doc = judge.sound(r)
    assert not any(x["all_dirty"] for x in doc["rounds"][1:])
