# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of packages share: the version, roots of releases, the packages built in them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Iterable

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build"))


def output(*argv: object, **kw: Any) -> str:
    """What a command prints that has to work."""
    r: subprocess.CompletedProcess[str] = subprocess.run(
        [*map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True, text=True, **kw)
    assert r.returncode == 0, f"{argv}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
    return r.stdout


VERSION = output(TOP / "scripts/version").strip()


class Root:
    """A root file system of the cache, with what is written to it in a folder of its own."""

    def __init__(self, lower: str | Path, folder: Path) -> None:
        self.lower, self.folder = lower, folder
        (folder / "mnt").mkdir(parents=True)

    def run(self, *argv: object, timeout: float = 1800) -> str:
        return output(TOP / "tests/packaging/in-root", self.lower, self.folder, *argv,
                      timeout=timeout)

    def sh(self, script: str, **kw: Any) -> str:
        return self.run("sh", "-ec", script, **kw)

    def put(self, debs: Iterable[Path]) -> None:
        for deb in debs:
            os.link(deb, self.folder / "mnt" / deb.name)

    def apt(self, words: str) -> None:
        """Installs, in the folder with our packages."""
        self.sh(f"cd /mnt && apt-get -qq -y install {words} >/dev/null")

    def lintian(self, folder: str | Path) -> None:
        self.sh(f"lintian --allow-root --fail-on error,warning {folder}/*.changes")


class Release:
    """A release: a root to build packages in, and clean ones to install them."""

    def __init__(self, suite: str, folder: Path) -> None:
        output(TOP / "testbed/build", "packaging", suite, env={**os.environ, "OOH_BUILD": BUILD})
        packaging, clean, root = (
            (BUILD / "testbed" / name).resolve()
            for name in (f"packaging-{suite}", f"clean-{suite}", "root")
        )
        lower: str | Path = packaging / "root"
        if (packaging / "layer").exists():
            lower = f"{packaging / 'layer'}:{root}"
        self.folder, self.lower = folder, clean / "root"
        self.packager = Root(lower, folder / "build")
        self.packager.run("/ooh/packaging/build-deb", "/mnt/deb")
        self.debs = folder / "build/mnt/deb"

    def clean(self, name: str) -> Root:
        """A machine that has nothing of ours, with the packages at /mnt."""
        root = Root(self.lower, self.folder / name)
        root.put(self.debs.glob("*.deb"))
        return root
