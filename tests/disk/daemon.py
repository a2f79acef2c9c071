# SPDX-License-Identifier: GPL-2.0-only
"""qemu-storage-daemon with one export, by QMP and by a small NBD client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, Mapping, Sequence


class Nbd:
    """One connection, one request at a time. Errors are OSError."""

    READ, WRITE, DISC, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6

    def __init__(self, path: Path, name: str) -> None:
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(120)
        self.s.connect(str(path))
        assert self.take(16) == b"NBDMAGICIHAVEOPT"
        self.take(2)
        # fixed newstyle, no zeroes; NBD_OPT_EXPORT_NAME
        self.s.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, len(name)) + name.encode())
        self.size, self.flags = struct.unpack(">QH", self.take(10))
        self.handle = 0

    def take(self, n: int) -> bytes:
        out = b""
        while len(out) < n:
            got = self.s.recv(n - len(out))
            if not got:
                raise ConnectionError("the daemon is gone")
            out += got
        return out

    def request(self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"",
                flags: int = 0) -> bytes:
        self.handle += 1
        self.s.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, self.handle, offset, length)
                       + data)
        magic, error, handle = struct.unpack(">IIQ", self.take(16))
        assert magic == 0x67446698 and handle == self.handle
        if error:
            raise OSError(error, os.strerror(error))
        return self.take(length) if kind == self.READ else b""

    def read(self, offset: int, length: int) -> bytes:
        out = b""
        while length:
            n = min(length, 16 << 20)
            out += self.request(self.READ, offset, n)
            offset, length = offset + n, length - n
        return out

    def write(self, offset: int, data: bytes) -> None:
        self.request(self.WRITE, offset, len(data), data)

    def zero(self, offset: int, length: int, unmap: bool) -> None:
        self.request(self.ZEROES, offset, length, flags=0 if unmap else 2)

    def flush(self) -> None:
        self.request(self.FLUSH)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, self.DISC, 0, 0, 0))
        self.s.close()


class Daemon:
    """TOOLS/qemu-storage-daemon, exports NODE. BLOCKDEVS: options of nodes, in order."""

    def __init__(self, tools: Path, folder: Path, blockdevs: Sequence[Mapping[str, object]],
                 node: str) -> None:
        self.folder = folder
        argv = [str(tools / "qemu-storage-daemon")]
        for b in blockdevs:
            argv += ["--blockdev", json.dumps(b)]
        self.qmp_path, self.nbd_path = folder / "qmp", folder / "nbd"
        argv += ["--chardev", f"socket,id=mon,path={self.qmp_path},server=on,wait=off",
                 "--monitor", "chardev=mon,mode=control",
                 "--nbd-server", f"addr.type=unix,addr.path={self.nbd_path}",
                 "--export", f"nbd,id=e,node-name={node},name=e,writable=on",
                 "--pidfile", str(folder / "pid")]
        for p in (self.qmp_path, self.nbd_path, folder / "pid"):
            p.unlink(missing_ok=True)
        self.log = open(folder / "daemon.log", "ab")
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 120
        while not (folder / "pid").exists() and self.p.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if not (folder / "pid").exists():
            self.p.kill()
            raise RuntimeError((folder / "daemon.log").read_text()[-2000:])
        self.q = socket.socket(socket.AF_UNIX)
        self.q.settimeout(120)
        self.q.connect(str(self.qmp_path))
        self.lines = self.q.makefile("r")
        self.events: list[dict[str, Any]] = []
        json.loads(self.lines.readline())
        self.qmp("qmp_capabilities")
        self.connect()

    def connect(self) -> None:
        self.nbd = Nbd(self.nbd_path, "e")

    def reply(self) -> Any:
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the daemon is gone: "
                                  + (self.folder / "daemon.log").read_text()[-2000:])
        return json.loads(line)

    def qmp(self, command: str, **arguments: Any) -> Any:
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.q.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            r = self.reply()
            if "return" in r:
                return r["return"]
            if "error" in r:
                raise RuntimeError(f"{command}: {r['error']['desc']}")
            self.events.append(r)

    def job(self, command: str, **arguments: Any) -> None:
        """Starts a job and waits for its end; between, does what it needs to end."""
        self.events.clear()
        self.qmp(command, job_id="job", auto_dismiss=False, **arguments)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            job = next(j for j in self.qmp("query-jobs") if j["id"] == "job")
            if job["status"] == "ready":
                self.qmp("job-complete", id="job")
            elif job["status"] == "concluded":
                self.qmp("job-dismiss", id="job")
                if "error" in job:
                    raise RuntimeError(f"{command}: {job['error']}")
                return
            time.sleep(0.005)
        raise RuntimeError(f"{command}: no end")

    def end_export(self, name: str) -> None:
        self.qmp("block-export-del", id=name, mode="hard")
        while not any(e["event"] == "BLOCK_EXPORT_DELETED" for e in self.events):
            self.events.append(self.reply())
        self.events.clear()

    def export_again(self, node: str, resize: int | None = None) -> None:
        """An export has the size that the disk had when it began, and doesn't let it change."""
        self.nbd.close()
        self.end_export("e")
        if resize:
            self.qmp("block_resize", node_name=node, size=resize)
        self.qmp("block-export-add", type="nbd", id="e", node_name=node, name="e", writable=True)
        self.connect()

    def kill(self) -> None:
        os.kill(self.p.pid, signal.SIGKILL)
        self.gone()

    def quit(self) -> None:
        self.nbd.close()
        self.qmp("quit")
        self.gone()

    def gone(self) -> None:
        self.status = self.p.wait(timeout=120)
        self.nbd.s.close()
        self.q.close()
        self.log.close()
