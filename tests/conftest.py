# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures: the emulated machines, and the module in the guest."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
import verdict

TOP = Path(__file__).resolve().parent.parent
VM = TOP / "testbed" / "vm"

# The machine whose guest is tested: make check-kvm has another one.
MACHINE = os.environ.get("OOH_MACHINE", "default")

# backends of libooh that read a log of the CPU's, and those of the kernel alone
LOGS = ["epml", "spml"] if MACHINE != "kvm" else ["spml"]
SOFTWARE = ["pagemap-scan", "uffd-wp", "soft-dirty"]

# for what takes too long for make check, which has a shorter test of the same claim
LONG = pytest.mark.skipif(not os.environ.get("OOH_LONG"), reason="long: make check-long")

# how a process can change its memory: tests/host/changers.c
WAYS = ["store", "threads", "kernel", "map", "map-over", "move", "drop", "drop-read", "drop-shared",
        "heap", "stack", "fork", "shared", "protect", "file", "copies", "library", "huge", "signals",
        "spawn", "sibling"]


def bench_lines(text):
    """What the programs of bench/ print: a dictionary for each line, numbers as such."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["bench"]:
            yield {k: int(v) if v.isdigit() else v for k, v in zip(words[2::2], words[3::2])}


def costs_table():
    """testbed/costs: cycles by event."""
    costs = {}
    for line in (TOP / "testbed" / "costs").read_text().splitlines():
        words = line.split("#")[0].split()
        if words:
            costs[words[0]] = int(words[1])
    return costs


def long(*values):
    """A set of parameters for make check-long alone."""
    return pytest.param(*values, marks=LONG)


class Machine:
    """One configuration of testbed/configs, for tests."""

    def __init__(self, config):
        self.config = config

    def command(self, verb, argv, timeout, into, flags=()):
        cmd = [VM, verb, "--config", self.config, "--timeout", str(timeout), *flags]
        for p in into:
            cmd += ["--in", p]
        return [*cmd, "--", *argv] if argv else cmd

    def run(self, verb, *argv, timeout=300, into=(), flags=(), text=True, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        # testbed/vm has the limit; this one is for its own hanging
        return subprocess.run(self.command(verb, argv, timeout, into, flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text,
                              timeout=timeout + 1300, **kw)

    def exec(self, *argv, **kw):
        return self.run("exec", *argv, **kw)

    def sh(self, script, **kw):
        return self.run("exec", "sh", "-c", script, **kw)

    def boot_log(self):
        r = self.run("log", flags=["--boot"])
        if r.returncode or not r.stdout:
            raise RuntimeError(f"machine {self.config} has no boot log: {r.stderr}")
        return r.stdout

    def dom0(self, script, **kw):
        return self.run("dom0", "sh", "-c", script, **kw)

    def host(self, script, **kw):
        """In what is below the guest on a machine without Xen."""
        return self.run("host", "sh", "-c", script, **kw)

    @contextlib.contextmanager
    def dom0_meanwhile(self, script, into=(), verb="dom0"):
        """A script in dom0 (verb "host": on KVM's host) that goes on until its input ends, which is when the block
        ends. It has to succeed; its output is in the list then."""
        cmd = self.command(verb, ["sh", "-c", script], 600, into)
        p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        output = []
        try:
            yield output
        finally:
            out, err = p.communicate(timeout=60)
        assert p.returncode == 0, err
        output.append(out)

    def up(self):
        verdict.watched.add(self.config)
        r = self.run("up", timeout=1500)
        if r.returncode:
            raise RuntimeError(f"machine {self.config} could not boot:\n{r.stderr[-2000:]}")

    def down(self):
        self.run("down")

    def good(self, script, **kw):
        """Runs a script that has to work for the test to make sense; its output."""
        r = self.sh(script, **kw)
        if r.returncode:
            raise RuntimeError(f"{script!r} ended with {r.returncode}:\n{r.stdout[-1000:]}{r.stderr[-1000:]}")
        return r.stdout

    def onepage(self):
        """Starts the program that writes to one page at each SIGUSR1; the page's frame. It has a session of its
        own: one that starts on a command line ends with it."""
        self.sh("pkill onepage; rm -f /tmp/frame")
        self.good("setsid /usr/lib/ooh/tests/onepage </dev/null >/tmp/frame 2>&1 & for i in $(seq 50); do "
                  "[ -s /tmp/frame ] && break; sleep 0.1; done")
        return int(self.good("cat /tmp/frame"))


def running():
    out = subprocess.run([VM, "status"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split()[0] for line in out.splitlines() if "running" in line}


class Machines:
    """name -> a machine that is up. Those that ran before the tests are left running."""

    def __init__(self):
        self.before, self.used = running(), {}

    def __call__(self, name):
        if name not in self.used:
            self.used[name] = Machine(name)
            self.used[name].up()
        return self.used[name]

    def end(self, keep=frozenset()):
        for name in self.used.keys() - self.before - keep:
            self.used.pop(name).down()


# An emulator keeps one processor busy, so there are as many processes of pytest (xdist) as processors,
# up to two, and the second one has machines of its own. A process takes a whole file, and the next one
# when it is done: those that take more than a minute come first, the longest before all others, so that
# no process is left alone in the end. (tests/run prints what each takes.)
LONGEST = ["test_configs", "test_migration", "test_kvm", "test_kvm_writers", "here",
           "test_patches", "test_hard", "test_fuzz", "test_leaks", "test_xen_defects",
           "test_programs", "test_criu", "test_verify", "test_logdirty", "test_boehm", "test_run",
           "test_kernels", "test_packages", "test_install", "test_costs", "test_memory", "test_criu_zdtm", "test_debug", "test_vm",
           "test_criu_patches"]
# a unit, too: all that builds and runs programs of this machine's
HERE = ("tests/host", "tests/bench/test_here.py")
if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
    os.environ["OOH_RUN"] = f"run-{os.environ['PYTEST_XDIST_WORKER']}"


def unit_of(path):
    return "here" if str(path.relative_to(TOP)).startswith(HERE) else path.stem


def names_in(item):
    """The words of a test's parameters."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {word for value in values if isinstance(value, str) for word in value.split()}


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(items):
    # a log that the machine does not have is no test of it
    items[:] = [item for item in items if not ({"epml", "spml"} - set(LOGS)) & names_in(item)]
    rank = {unit: n for n, unit in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(unit_of(item.path), len(rank)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(unit_of(item.path)))


@pytest.fixture(scope="session")
def machines():
    m = Machines()
    yield m
    m.end()


@pytest.fixture(scope="module", autouse=True)
def no_idle_machines(machines, request):
    """An idle machine takes a quarter of a processor: only the default one stays, for a file that uses it."""
    if not any("vm" in item.fixturenames for item in request.session.items if item.path == request.path):
        machines.end()
    yield
    machines.end(keep={MACHINE})


@pytest.fixture
def fresh_debug(machines):
    """The machine with a debug Xen as it was after boot: each comparison of memory begins at one state."""
    m = machines("debug")
    m.down()
    m.up()
    yield m
    m.down()


@pytest.fixture(scope="module")
def vm(machines):
    return machines(MACHINE)


@pytest.fixture
def module(vm):
    """The module, taken in anew: no tracker, no injected fault, parameters as given."""
    def load(params=""):
        vm.good(f"rmmod ooh; insmod /usr/lib/ooh/ooh.ko {params}")
        return vm

    load()
    yield load
    vm.good("rmmod ooh 2>/dev/null; insmod /usr/lib/ooh/ooh.ko")
