# SPDX-License-Identifier: GPL-2.0-only
"""Bochs, and what runs in it: a configuration's process, disc, snapshot and serial log."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, Sequence

from testbed import BUILD, tables
from testbed.session import Failure, Session, TimedOut

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("OOH_CACHE", "/var/cache/ooh"))
PARTS = BUILD / "testbed"
# machines of one's own, for one who works beside others
RUN = PARTS / os.environ.get("OOH_RUN", "run")
HOST, GUEST = 0, 1

# What ends a machine, or the guest in it, for good.
DEADLY = re.compile(
    rb"Kernel panic - not syncing.*|\(XEN\) Panic on CPU.*|\(XEN\) .*domain_crash called.*"
    rb"|\(XEN\) Domain \d+ \(vcpu#\d+\) crashed.*|\(XEN\) Domain \d+ .*reported crashed.*"
    rb"|dom0: xl create failed.*|host: QEMU ended.*|FATAL ERROR: Bochs.*"
)


class Usage(Failure):
    status = 2


def say(text: object) -> None:
    print(f"vm: {text}", file=sys.stderr, flush=True)


def tree_hash(path: Path) -> str:
    """One hash of names, modes and contents."""
    h = hashlib.sha256()
    for p in sorted(path.rglob("*")):
        st = p.lstat()
        h.update(f"{p.relative_to(path)} {st.st_mode:o}\n".encode())
        if p.is_symlink():
            h.update(os.readlink(p).encode())
        elif p.is_file():
            h.update(p.read_bytes())
    return h.hexdigest()


def bochsrc(bochs: Path, cpu: str, memory: str, disc: Path) -> str:
    """Bochs's configuration: a CPU model with its options, MiB."""
    return "\n".join([
        f"cpu: model={cpu}",
        f"memory: guest={memory}, host={memory}",
        f"romimage: file={bochs.resolve()}/bios",
        "vgaromimage: file=/usr/share/seabios/vgabios-stdvga.bin",
        "vga: extension=vbe",
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
        f"ata0-master: type=cdrom, path={disc}, status=inserted",
        "boot: cdrom",
        "com1: enabled=1, mode=file, dev=serial.log",
        "clock: sync=none, time0=946684800",
        "log: bochs.log",
        "display_library: nogui",
        "panic: action=fatal",
        "error: action=ignore",
        "info: action=ignore",
        "",
    ])


class Emulator:
    """One configuration of testbed/configs, that of OOH_RUN's machines."""

    def __init__(self, name: str) -> None:
        table = tables.configs()
        if name not in table:
            raise Usage(f"no configuration {name!r}; there are: {', '.join(table)}")
        self.name, self.config = name, table[name]
        self.kvm = self.config.get("hypervisor") == "kvm"
        self.parts = {HOST: "host" if self.kvm else "dom0", GUEST: "guest"}
        self.dir = RUN / name
        self.seen = 0  # how far the serial log was looked through
        self.process: subprocess.Popen[bytes] | None = None

    # -- state

    def pid(self) -> int | None:
        """Bochs's process, or None. A number alone could be anybody's by now."""
        try:
            pid, began = (self.dir / "pid").read_text().split()
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return int(pid) if stat[19] == began and stat[0] != "Z" else None
        except (OSError, ValueError):
            return None

    def remember(self, pid: int) -> None:
        began = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        (self.dir / "pid").write_text(f"{pid} {began}\n")

    def check(self, deadline: float, why: str) -> None:
        """Raises if the machine is dead or the time is over."""
        log = self.dir / "serial.log"
        with contextlib.suppress(FileNotFoundError), log.open("rb") as f:
            f.seek(self.seen)
            data = f.read()
            end = data.rfind(b"\n") + 1
            self.seen += end
            found = DEADLY.search(data[:end])
            if found:
                text = found.group().decode(errors="replace").strip()
                (self.dir / "dead").write_text(text + "\n")
                raise Failure(f"machine {self.name}: {text} (testbed/vm log --config {self.name})")
        if self.pid() is None:
            raise Failure(f"machine {self.name}: the emulator ended, see {self.dir}/bochs.out")
        if time.monotonic() > deadline:
            raise TimedOut(f"machine {self.name}: time is over: {why}")

    @contextlib.contextmanager
    def lock(self, deadline: float, which: str = "lock") -> Iterator[None]:
        self.dir.mkdir(parents=True, exist_ok=True)
        with (self.dir / which).open("w") as f:
            while True:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimedOut(
                            f"machine {self.name} is in use by another testbed/vm") from None
                    time.sleep(0.1)
            yield

    # -- starting

    def start(self, args: Sequence[str], costs: str | None = None) -> None:
        for stale in ("chan0", "chan1", "serial.log", "pid", "dead", "delivered", "costs"):
            (self.dir / stale).unlink(missing_ok=True)
        if costs is not None:
            (self.dir / "costs").write_text(costs)
        # Bochs makes it when there is something to log
        (self.dir / "serial.log").touch()
        self.seen = 0
        with (self.dir / "bochs.out").open("wb") as out:
            self.process = subprocess.Popen(
                [PARTS / "bochs" / "bochs", "-q", *args],
                cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, "BX_SIM_DIR": "."}, start_new_session=True,
            )
        self.remember(self.process.pid)

    def stop(self) -> bool:
        """Returns whether it was running."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            for _ in range(200):
                if self.process:
                    self.process.poll()
                if self.pid() is None:
                    break
                time.sleep(0.05)
        (self.dir / "pid").unlink(missing_ok=True)
        return pid is not None

    def disc(self) -> Path:
        """Builds what this configuration boots from."""
        # costs are no part of what boots: such a machine shares disc and snapshot with one without
        env = {**os.environ, "OOH_BUILD": str(BUILD),
               **{f"CFG_{k.upper()}": v for k, v in self.config.items() if k != "costs"}}
        if subprocess.run([HERE / "build", "image", self.name], env=env).returncode:
            raise Failure("the machine could not be built")
        return (PARTS / f"image-{self.name}").resolve()

    def bochsrc(self, disc: Path) -> str:
        c = self.config
        cpu = [c["cpu"], f"count={c['cpus']}", "ips=200000000", "reset_on_triple_fault=0",
               *self.features(), *([f"msrs={disc}/msrs"] if self.kvm else [])]
        return bochsrc(PARTS / "bochs", ", ".join(cpu), c["memory"], disc / "disc.iso")

    def features(self) -> list[str]:
        """Bochs's options for what the CPU model is given, and for what it is without."""
        words = self.config["features"].split()
        named = {"add_features": [w for w in words if w[0] != "-"],
                 "exclude_features": [w[1:] for w in words if w[0] == "-"]}
        return [f'{option}="{" ".join(names)}"' for option, names in named.items() if names]

    def made_of(self) -> tuple[str, Path]:
        """Builds what is missing; returns Bochs's configuration and where the snapshot belongs."""
        rc = self.bochsrc(self.disc())
        key = hashlib.sha256((rc + str((PARTS / "bochs").resolve())).encode()).hexdigest()[:24]
        return rc, CACHE / f"snapshot-{key}"

    def up(self, deadline: float, current: bool = False) -> str:
        """Makes the machine run; with current, the one that today's sources make.
        Returns what was done, in words."""
        alive = self.pid() is not None and not (self.dir / "dead").exists()
        if alive and not current:
            return "running"
        rc, snapshot = self.made_of()
        if (alive and os.readlink(self.dir / "snapshot") == str(snapshot)
                and self.costs() == self.charged()):
            return "running"
        self.stop()
        if not snapshot.is_dir():
            self.first_boot(rc, snapshot, deadline)
        link = self.dir / "snapshot"
        link.unlink(missing_ok=True)
        link.symlink_to(snapshot)
        began = time.monotonic()
        # what Bochs saves of its options lacks this one
        features = ", ".join(self.features())
        self.start(["-r", str(snapshot), *([f"cpu: {features}"] if features else [])], self.costs())
        for chan in (HOST, GUEST):
            with Session(self, chan, deadline):
                pass
        # used snapshots are the ones to keep
        os.utime(snapshot)
        return f"restored from its snapshot in {time.monotonic() - began:.1f} s"

    def costs(self) -> str | None:
        """The table that this configuration's clock charges by, or None."""
        return tables.COSTS.read_text() if self.config["costs"] == "on" else None

    def charged(self) -> str | None:
        """The table that the machine was started with."""
        path = self.dir / "costs"
        return path.read_text() if path.exists() else None

    def first_boot(self, rc: str, snapshot: Path, deadline: float) -> None:
        say(f"machine {self.name}: first boot (a few minutes; then never again for this build)")
        began = time.monotonic()
        (self.dir / "bochsrc").write_text(rc)
        self.start(["-f", "bochsrc"])
        try:
            for chan in (HOST, GUEST):
                with Session(self, chan, deadline):
                    say(f"machine {self.name}: {self.parts[chan]} up after "
                        f"{time.monotonic() - began:.0f} s")
            with Session(self, HOST, deadline) as s:
                s.execute(["emustat", "--save"])
                while not (self.dir / "save").is_dir():
                    self.check(deadline, "no snapshot was written")
                    time.sleep(0.1)
            say(f"machine {self.name}: snapshot after {time.monotonic() - began:.0f} s")
        except Failure:
            with contextlib.suppress(OSError):
                lines = (self.dir / "serial.log").read_text(errors="replace").splitlines()[-20:]
                say("the serial log ends with\n" + "\n".join(line[:200] for line in lines))
            raise
        finally:
            self.stop()
        save = self.dir / "save"
        shutil.copy(self.dir / "serial.log", save / "boot.log")
        tmp = CACHE / f"tmp-{snapshot.name}.{os.getpid()}"
        shutil.rmtree(tmp, ignore_errors=True)
        # keep the holes: a snapshot is a sparse file
        subprocess.run(["cp", "-a", "--sparse=always", save, tmp], check=True)
        shutil.rmtree(save)
        try:
            tmp.rename(snapshot)
        except OSError:
            shutil.rmtree(tmp)  # somebody else was quicker
        # a snapshot is some hundred MB: keep those of two generations
        old = sorted(CACHE.glob("snapshot-*"), key=lambda p: p.stat().st_mtime)[:-16]
        for p in old:
            shutil.rmtree(p, ignore_errors=True)

    def deliver(self, deadline: float) -> None:
        """Puts build/guest into the guest if it is not what the guest has."""
        tree = BUILD / "guest"
        if not tree.is_dir():
            return
        mark, now = self.dir / "delivered", tree_hash(tree)
        if mark.exists() and mark.read_text() == now:
            return
        with Session(self, GUEST, deadline) as s:
            s.tar(b"U", [(p.name, p) for p in sorted(tree.iterdir())])
            s.execute(["sh", "-c", "ldconfig 2>/dev/null; exec /usr/lib/ooh/reload"])
            s.finish(lambda d: None, lambda d: None, "taking in the software")
        mark.write_text(now)
