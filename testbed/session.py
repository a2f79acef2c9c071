# SPDX-License-Identifier: GPL-2.0-only
"""The conversation with an agent in the machine (agent/agent.c describes the frames)."""

from __future__ import annotations

import os
import select
import socket
import struct
import tarfile
import time
from pathlib import Path
from typing import IO, Callable, Protocol, Sequence, cast

MACHINE_FAILED, TIMED_OUT = 125, 124


class Failure(Exception):
    """The machine, not the command in it, failed."""

    status = MACHINE_FAILED


class TimedOut(Failure):
    status = TIMED_OUT


class Peer(Protocol):
    """The machine that the agents are in."""

    dir: Path
    parts: dict[int, str]

    def check(self, deadline: float, why: str) -> None:
        """Raises if the machine is dead or the time is over."""


class Session:
    """One conversation."""

    def __init__(self, machine: Peer, chan: int, deadline: float) -> None:
        self.machine, self.chan, self.deadline = machine, chan, deadline
        self.sock: socket.socket | None = None

    def __enter__(self) -> Session:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        if self.sock:
            self.sock.close()

    def connect(self) -> None:
        """Connects and waits until the agent answers."""
        while True:
            self.machine.check(self.deadline, f"{self.machine.parts[self.chan]} does not answer")
            sock = socket.socket(socket.AF_UNIX)
            # the path of a socket may not be long: go by the folder's descriptor
            fd = os.open(self.machine.dir, os.O_PATH)
            try:
                sock.connect(f"/proc/self/fd/{fd}/chan{self.chan}")
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                sock.close()
                time.sleep(0.05)
                continue
            finally:
                os.close(fd)
            self.sock = sock
            try:
                self.send(b"P")
                while (kind := self.frame("the agent does not answer")[0]) != b"P":
                    if kind in (b"X", b"F"):
                        # the end of a session that a snapshot holds: until its peer, for which
                        # the agent takes us, hangs up, the agent throws away what comes
                        raise ConnectionError
                return
            except (ConnectionError, EOFError):
                # the channel's last user was still being seen off
                sock.close()
                time.sleep(0.05)

    def connected(self) -> socket.socket:
        assert self.sock is not None
        return self.sock

    def wait(self, why: str) -> None:
        """Waits until there is something to read."""
        sock = self.connected()
        while not select.select([sock], [], [], 0.2)[0]:
            self.machine.check(self.deadline, why)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        sock = self.connected()
        data = memoryview(kind + struct.pack("<I", len(payload)) + payload)
        while data:
            _, w, _ = select.select([], [sock], [], 0.2)
            if w:
                sock.setblocking(False)
                try:
                    data = data[sock.send(data[: 1 << 18]):]
                except BlockingIOError:
                    pass
                finally:
                    sock.setblocking(True)
            else:
                self.machine.check(self.deadline,
                                   f"{self.machine.parts[self.chan]} takes no data")

    def read(self, n: int, why: str) -> bytes:
        data = bytearray()
        while len(data) < n:
            self.wait(why)
            piece = self.connected().recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def frame(self, why: str) -> tuple[bytes, bytes]:
        kind, length = struct.unpack("<cI", self.read(5, why))
        return kind, self.read(length, why)

    def tar(self, kind: bytes, paths: Sequence[tuple[str, Path | str]]) -> None:
        """Sends an archive of files and folders, each with the name that it gets there."""
        outer = self

        class Pieces:
            def write(self, data: bytes) -> int:
                if data:
                    outer.send(kind, bytes(data))
                return len(data)

        pieces = cast(IO[bytes], Pieces())  # of which a stream of tar's needs nothing else
        with tarfile.open(fileobj=pieces, mode="w|", format=tarfile.GNU_FORMAT,
                          bufsize=1 << 18) as t:
            for name, path in paths:
                t.add(path, name)
        self.send(kind)

    def execute(self, argv: Sequence[str], pty: bool = False) -> None:
        self.send(b"E", bytes([pty]) + b"".join(os.fsencode(a) + b"\0" for a in argv))

    def finish(self, out: Callable[[bytes], None], err: Callable[[bytes], None], what: str) -> int:
        """Passes the output on until the command ends; returns its status."""
        while True:
            try:
                kind, data = self.frame(f"{what} did not end")
            except (EOFError, ConnectionError):
                self.machine.check(self.deadline, "")
                raise Failure(f"{self.machine.parts[self.chan]} hung up") from None
            if kind == b"O":
                out(data)
            elif kind == b"R":
                err(data)
            elif kind == b"X":
                return int(struct.unpack("<I", data)[0])
            elif kind == b"F":
                raise Failure(f"{self.machine.parts[self.chan]}: {data.decode(errors='replace')}")
