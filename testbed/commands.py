# SPDX-License-Identifier: GPL-2.0-only
"""What testbed/vm does for each of its words."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import functools
import os
import shutil
import signal
import struct
import sys
import termios
import threading
import time
import tty
from pathlib import Path
from typing import Callable

from testbed.emulator import GUEST, HOST, PARTS, RUN, Emulator, say
from testbed.session import Failure, Session
from testbed.tables import configs


def usage(text: str) -> int:
    print(f"vm: {text}", file=sys.stderr)
    return 2


def writer(fd: int) -> Callable[[bytes], None]:
    """Writes everything, and bears a reader that went away."""
    def write(data: bytes) -> None:
        try:
            while data:
                data = data[os.write(fd, data):]
        except BrokenPipeError:
            raise SystemExit(128 + signal.SIGPIPE) from None
    return write


def forward_stdin(session: Session) -> None:
    """Feeds this program's input to the command, from a thread of its own."""
    def run() -> None:
        with contextlib.suppress(OSError, Failure, ConnectionError):
            while True:
                data = os.read(0, 1 << 16)
                session.send(b"I", data)
                if not data:
                    break

    threading.Thread(target=run, daemon=True).start()


def name_of(path: Path) -> str:
    return path.resolve().name if path.name in ("", "..") else path.name


def run(args: argparse.Namespace, chan: int) -> int:
    deadline = time.monotonic() + args.timeout
    machine = Emulator(args.config)
    for p in args.into:
        if not os.path.lexists(p):
            return usage(f"--in {p}: no such file or folder")
    with machine.lock(deadline, "lock"):
        machine.up(max(deadline, time.monotonic() + args.boot_timeout))
        # the limit is for the command; a first boot has its own
        deadline = max(deadline, time.monotonic() + args.timeout)
        if chan == GUEST:
            machine.deliver(deadline)
    with machine.lock(deadline, f"lock{chan}"), Session(machine, chan, deadline) as s:
        if args.into:
            s.tar(b"T", [(name_of(Path(p)), p) for p in args.into])
        if args.command == "shell":
            return shell(s, args.argv or ["bash", "-l"])
        s.execute(args.argv)
        if sys.stdin is not None and not os.isatty(0):
            forward_stdin(s)
        else:
            s.send(b"I")
        return s.finish(writer(1), writer(2), args.argv[0])


def shell(session: Session, argv: list[str]) -> int:
    if not os.isatty(0):
        return usage("shell needs a terminal; use exec")
    session.execute(["env", f"TERM={os.environ.get('TERM', 'vt100')}", *argv], pty=True)

    def size(*_: object) -> None:
        rows, cols = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))[:2]
        session.send(b"W", struct.pack("<HH", rows, cols))

    size()
    signal.signal(signal.SIGWINCH, size)
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is for the shell
        forward_stdin(session)
        return session.finish(writer(1), writer(2), "the shell")
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def up(args: argparse.Namespace) -> int:
    machine = Emulator(args.config)
    deadline = time.monotonic() + args.timeout
    with machine.lock(deadline):
        how = machine.up(deadline, current=True)
        machine.deliver(deadline)
    say(f"machine {machine.name}: {how}")
    return 0


def prepare(args: argparse.Namespace) -> int:
    """First boots, as many at once as there are processors: an emulator uses one."""
    deadline = time.monotonic() + args.timeout
    # by snapshot: some machines have the same one
    todo: dict[Path, tuple[Emulator, str, Path]] = {}
    for machine in map(Emulator, args.names):
        rc, snapshot = machine.made_of()
        if not snapshot.is_dir():
            todo.setdefault(snapshot, (machine, rc, snapshot))

    def boot(machine: Emulator, rc: str, snapshot: Path) -> int:
        try:
            with machine.lock(deadline):
                machine.stop()
                machine.first_boot(rc, snapshot, deadline)
            return 0
        except Failure as e:
            say(e)
            return e.status

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return max(pool.map(lambda what: boot(*what), todo.values()), default=0)


def down(args: argparse.Namespace) -> int:
    for folder in sorted(PARTS.glob("run*/*")) if args.all else [RUN / args.config]:
        name = folder.name
        if name in configs():
            machine = Emulator(name)
            machine.dir = folder
            if machine.stop():
                say(f"machine {name}: ended")
            elif not args.all:
                say(f"machine {name}: was not running")
    return 0


def status(args: argparse.Namespace) -> int:
    for name in configs():
        machine = Emulator(name)
        pid = machine.pid()
        dead = machine.dir / "dead"
        state = f"running, pid {pid}" if pid else "down"
        print(f"{name:10} {'crashed: ' + dead.read_text().strip() if dead.exists() else state}")
    return 0


def log(args: argparse.Namespace) -> int:
    machine = Emulator(args.config)
    path = machine.dir / "serial.log"
    if not path.exists():
        return usage(f"machine {args.config} has no log: it was never started")
    if args.boot:
        boot = machine.dir / "snapshot" / "boot.log"
        if boot.exists():
            shutil.copyfileobj(boot.open("rb"), sys.stdout.buffer)
    shutil.copyfileobj(path.open("rb"), sys.stdout.buffer)
    return 0


def positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def main(about: str | None) -> int:
    """testbed/vm, which says `about` of itself."""
    p = argparse.ArgumentParser(prog="vm", description=about,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="command", required=True)

    def add(name: str, func: Callable[[argparse.Namespace], int], text: str,
            timeout: float = 600.0) -> argparse.ArgumentParser:
        q = sub.add_parser(name, help=text, description=text)
        q.add_argument("--config", default="default", metavar="NAME",
                       help="machine of testbed/configs")
        q.add_argument("--timeout", type=positive, default=timeout, metavar="S",
                       help="limit in s (default %(default)g)")
        q.set_defaults(func=func)
        return q

    for name, chan, text in (
            ("exec", GUEST, "run a command in the guest, as root, in an empty folder"),
            ("host", HOST, "run a command below the guest: in dom0, or on KVM's host"),
            ("dom0", HOST, "the same, of machines with Xen"),
            ("shell", GUEST, "a shell in the guest, on a terminal")):
        q = add(name, functools.partial(run, chan=chan),
                text + "; 124: time over, 125: the machine failed",
                timeout=600.0 if name != "shell" else 7 * 86400.0)
        q.add_argument("--in", dest="into", action="append", default=[], metavar="PATH",
                       help="copy a file or folder there first")
        q.add_argument("--boot-timeout", type=positive, default=1200.0, metavar="S",
                       help=argparse.SUPPRESS)
        q.add_argument("argv", nargs="*" if name == "shell" else "+", metavar="CMD")
    add("up", up, "start the machine", timeout=1200.0)
    q = add("prepare", prepare, "boot machines for the first time, several at once, "
            "so that up is a matter of seconds", timeout=3600.0)
    q.add_argument("names", nargs="+", metavar="NAME")
    q = add("down", down, "end the machine")
    q.add_argument("--all", action="store_true", help="every one of this checkout")
    add("status", status, "which machines run")
    q = add("log", log, "the serial log: Xen, dom0 or host, guest")
    q.add_argument("--boot", action="store_true", help="with the boot before the snapshot")
    args = p.parse_args()
    do: Callable[[argparse.Namespace], int] = args.func
    try:
        ended = do(args)
        sys.stdout.flush()
        return ended
    except BrokenPipeError:
        # whoever read the output went away, and Python is not to say so once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except Failure as e:
        say(e)
        return e.status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
