# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures: the emulated machines, and the module in the guest."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import AbstractSet, Any, Callable, Iterable, Iterator

import pytest
import testbed
import verdict
from testbed import client

TOP, VM = testbed.TOP, client.VM

# The machine whose guest is tested: make check-kvm has another one; "here" is this one itself
# (tests/here).
MACHINE = os.environ.get("OOH_MACHINE", "default")

# backends of libooh that read a log of the CPU's, and those of the kernel alone
LOGS = {"kvm": ["spml"],
        "here": os.environ.get("OOH_LOGS", "").split()}.get(MACHINE, ["epml", "spml"])
SOFTWARE = ["pagemap-scan", "uffd-wp", "soft-dirty"]

# for what takes too long for make check, which has a shorter test of the same claim
LONG = pytest.mark.skipif(not os.environ.get("OOH_LONG"), reason="long: make check-long")

# how a process can change its memory: tests/host/changers.c
WAYS = ["store", "threads", "kernel", "map", "map-over", "move", "drop", "drop-read",
        "drop-shared", "heap", "stack", "fork", "shared", "protect", "file", "copies", "library",
        "huge", "signals", "spawn", "sibling"]


def long(*values: object) -> Any:
    """A set of parameters for make check-long alone."""
    return pytest.param(*values, marks=LONG)


class Machine(client.Machine):
    """One of whose serial log no test may make a defect's line."""

    def up(self) -> None:
        verdict.watched.add(self.config)
        super().up()

    def onepage(self) -> int:
        """Starts the program that writes to one page at each SIGUSR1; the page's frame. It has a
        session of its own: one that starts on a command line ends with it."""
        self.sh("pkill onepage; rm -f /tmp/frame")
        self.good("setsid /usr/lib/ooh/tests/onepage </dev/null >/tmp/frame 2>&1 & "
                  "for i in $(seq 50); do [ -s /tmp/frame ] && break; sleep 0.1; done")
        return int(self.good("cat /tmp/frame"))


class Here(Machine):
    """This machine: commands run as they do in the guest, in an empty folder."""

    def run(self, verb: str, *argv: str | Path, timeout: float = 300,
            into: Iterable[str | Path] = (), flags: Iterable[str] = (), text: bool = True,
            **kw: Any) -> subprocess.CompletedProcess[Any]:
        if verb != "exec" or flags:
            pytest.skip("needs what is below the guest")
        kw.setdefault("stdin", subprocess.DEVNULL)
        with tempfile.TemporaryDirectory() as folder:
            for path in into:
                subprocess.run(["cp", "-a", path, folder], check=True)
            return subprocess.run(["timeout", "-k", "5", str(timeout), *argv], cwd=folder,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text,
                                  timeout=timeout + 60, **kw)

    def up(self) -> None:
        pass

    def down(self) -> None:
        pass


class Machines:
    """name -> a machine that is up. Those that ran before the tests are left running."""

    def __init__(self) -> None:
        self.before = client.running() if MACHINE != "here" else set()
        self.used: dict[str, Machine] = {}

    def __call__(self, name: str) -> Machine:
        if name not in self.used:
            if (name == "here") != (MACHINE == "here"):
                pytest.skip(f"needs the emulated machine {name}")
            self.used[name] = (Here if name == "here" else Machine)(name)
            self.used[name].up()
        return self.used[name]

    def end(self, keep: AbstractSet[str] = frozenset()) -> None:
        for name in self.used.keys() - self.before - keep:
            self.used.pop(name).down()


# An emulator keeps one processor busy, so there are as many processes of pytest (xdist) as
# processors, up to two, and the second one has machines of its own. A process takes a whole file,
# and the next one when it is done: those that take more than a minute come first, the longest
# before all others, so that no process is left alone in the end. (tests/run prints what each
# takes.)
LONGEST = ["test_configs", "test_migration", "test_kvm", "test_kvm_writers", "here",
           "test_patches", "test_hard", "test_fuzz", "test_leaks", "test_xen_defects",
           "test_programs", "test_criu", "test_verify", "test_logdirty", "test_boehm", "test_run",
           "test_kernels", "test_packages", "test_install", "test_costs", "test_memory",
           "test_criu_zdtm", "test_debug", "test_vm", "test_criu_patches"]
# a unit, too: all that builds and runs programs of this machine's
HERE = ("tests/host", "tests/bench/test_here.py", "tests/hard/test_hard_natively.py")
if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
    os.environ["OOH_RUN"] = f"run-{os.environ['PYTEST_XDIST_WORKER']}"


def unit_of(path: Path) -> str:
    return "here" if str(path.relative_to(TOP)).startswith(HERE) else path.stem


def names_in(item: pytest.Item) -> set[str]:
    """The words of a test's parameters."""
    call = getattr(item, "callspec", None)
    values = call.params.values() if call else ()
    return {word for value in values if isinstance(value, str) for word in value.split()}


# programs and tests that are for a machine of which nobody minds the clock, the swap or the memory
# that is left
NOT_HERE = {"clock_set", "test_program_with_a_disk", "test_tracepoints"}


def not_here(items: list[pytest.Item]) -> None:
    """Each test that this machine cannot have, or should not, is skipped with the reason."""
    lacking = set(os.environ["OOH_WITHOUT_TRACKERS"].split())
    for item in items:
        words = names_in(item)
        if words & lacking:
            names = ", ".join(sorted(words & lacking))
            item.add_marker(pytest.mark.skip(reason=f"{names} is not usable here"))
        elif not LOGS and not words & set(SOFTWARE):
            item.add_marker(pytest.mark.skip(reason="needs the module, and a log"))
        elif any((TOP / f"tests/guest/{w}.c").exists() and
                 not os.path.exists(f"/usr/lib/ooh/tests/{w}") for w in words):
            item.add_marker(pytest.mark.skip(reason="its program does not build here"))
        elif (words | {item.name.split("[")[0]}) & NOT_HERE:
            reason = "changes more of a machine than its own processes"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # a log that the machine does not have is no test of it
    if MACHINE == "here":
        not_here(items)
    else:
        items[:] = [item for item in items if not ({"epml", "spml"} - set(LOGS)) & names_in(item)]
    rank = {unit: n for n, unit in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(unit_of(item.path), len(rank)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(unit_of(item.path)))


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    m = Machines()
    yield m
    m.end()


@pytest.fixture(scope="module", autouse=True)
def no_idle_machines(machines: Machines, request: pytest.FixtureRequest) -> Iterator[None]:
    """An idle machine takes a quarter of a processor: only the default one stays, for a file that
    uses it."""
    if not any("vm" in getattr(item, "fixturenames", ()) for item in request.session.items
               if item.path == request.path):
        machines.end()
    yield
    machines.end(keep={MACHINE})


@pytest.fixture
def fresh_debug(machines: Machines) -> Iterator[Machine]:
    """The machine with a debug Xen as it was after boot: each comparison of memory begins at one
    state."""
    m = machines("debug")
    m.down()
    m.up()
    yield m
    m.down()


@pytest.fixture(scope="module")
def vm(machines: Machines) -> Machine:
    return machines(MACHINE)


@pytest.fixture
def module(vm: Machine) -> Iterator[Callable[..., Machine]]:
    """The module, taken in anew: no tracker, no injected fault, parameters as given."""
    def load(params: str = "") -> Machine:
        vm.good(f"rmmod ooh; insmod /usr/lib/ooh/ooh.ko {params}")
        return vm

    load()
    yield load
    vm.good("rmmod ooh 2>/dev/null; insmod /usr/lib/ooh/ooh.ko")
