# SPDX-License-Identifier: GPL-2.0-only
"""The commands of README and of all documents: those that can run here are run as they are printed;
of all others target, script, option, program and file exist. So do the tests and files that a text
names."""

import functools
import html.parser
import importlib.machinery
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from test_docs import TOP, documents

markdown = pytest.importorskip("markdown")


def script(name):
    """A script of scripts/ as a module."""
    loader = importlib.machinery.SourceFileLoader(f"script_{name}", str(TOP / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


SITE = script("site")

BUILD = Path(os.environ.get("OOH_BUILD", TOP / "build"))
OOH = os.environ.get("OOH_BIN", str(BUILD / "host/usr/bin/ooh"))

# Blocks that are no commands, by how they begin.
NO_COMMANDS = ["CPU or Bochs ", "first quadword ", "GC_ENABLE_INCREMENTAL=1 PROGRAM"]

# Commands that are not run here, and why.
NOT_RUN = [
    (r"testbed/vm |make (demo|cost|bench|fuzz|soak)", "an emulated machine: minutes to hours"),
    (r"make( |$)", "builds, installs or tests: make check itself does"),
    (r"tests/run", "tests within tests"),
    (r"bench/run --here$", "minutes: test_here.py runs it with --quick"),
    (r"(build/host/usr/bin/)?ooh top( |$)(?!.*--batch)", "a terminal: test_top_host.py has one"),
    (r"(build/host/usr/bin/)?ooh .*-b (spml|epml)", "a guest that has the log"),
    (r"ooh (doctor|restore|checkpoint)", "an installed ooh: its own tests run it"),
    (r"scripts/patches|cd [\w-]+-src", "upstream's source: test_patches.py"),
    (r"cat /sys/module/kvm_intel|lspci|qemu-system|<|xl |virsh |mokutil |reboot",
     "another machine, or its host"),
    (r"(apt|apt-get|dpkg|ldconfig|modprobe|insmod|rmmod|systemctl|rpmbuild|sudo) |ldconfig$|"
     r"/lib/modules/", "changes the machine"),
    (r"pip install bindings/python", "changes the machine: test_python.py installs it elsewhere"),
    (r"python3 bindings/python/examples/", "an installed package: test_python.py runs the example"),
    (r"(\w+=\S+ )*cargo ", "in the crate's folder: test_rust.py runs the example there"),
    (r"\.\.\.", "no command: what the reader does in between"),
]


class Code(html.parser.HTMLParser):
    """The blocks of code of a document, and the words that are code within a text."""

    def __init__(self, text):
        super().__init__()
        self.blocks, self.words, self.within = [], [], []
        self.feed(markdown.markdown(SITE.indent_lists(text), extensions=["tables", "sane_lists"]))

    def handle_starttag(self, tag, _attributes):
        self.within.append(tag)
        if tag == "code":
            (self.blocks if "pre" in self.within else self.words).append("")

    def handle_endtag(self, tag):
        while self.within and self.within.pop() != tag:
            pass

    def handle_data(self, data):
        if "code" in self.within:
            (self.blocks if "pre" in self.within else self.words)[-1] += data


@functools.lru_cache(maxsize=None)
def code(path):
    return Code((TOP / path).read_text())


def is_elsewhere(command):
    """In the source of an upstream, which its patches' import has made."""
    m = re.match(r"cd ([\w-]+)", command)
    return m is not None and not (TOP / m.group(1)).exists()


def commands():
    """(document, command): a line of a block, with those that continue it and without what is said
    of it."""
    for path in documents():
        for block in code(path).blocks:
            if block.startswith(tuple(NO_COMMANDS)):
                continue
            before = ""
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"(^|\s+)# .*", "", line).strip()
                if not line:
                    continue
                if is_elsewhere(line) and "&&" not in line:
                    before = f"{line}; "
                    continue
                yield path, before + (" ".join(line.split()) if "'" not in line else line)


def inline():
    """Commands within a text: those that begin with what is ours. (What ooh prints also begins with
    ooh.)"""
    for path in documents():
        for words in code(path).words:
            words = " ".join(words.split())
            if re.match(r"(make|testbed/vm|scripts/patches|tests/run|bench/run|demo/run) |"
                        r"ooh \w+( [-A-Z$/].*)?$", words):
                yield path, words


def reason(command):
    return next((why for pattern, why in NOT_RUN if re.match(pattern, command)), None)


@functools.lru_cache(maxsize=None)
def usage(path, *verb):
    """What a script says of its options: a Python script when it is asked, a shell script in its
    text."""
    text = path.read_text()
    if "python3" not in text.splitlines()[0]:
        return text
    r = subprocess.run([path, *verb, "--help"], stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(TOP / "tests")})
    return r.stdout if r.returncode == 0 else ""


def has_options(path, options, of, *verb):
    for o in options:
        name = re.escape(o.split("=")[0])
        there = re.search(rf"(?<![\w-]){name}(?![\w-])", usage(path, *verb)) is not None
        assert there, f"{of}: {path.name} has no {o}"


def has_verb(path, verb, of):
    """As a case of a shell script, or one that a Python script lists."""
    text = usage(path)
    there = re.search(rf"^\s*([\w|-]+\|)?{verb}(\|[\w|-]+)?\)|[{{,]{verb}[}},]", text, re.M)
    assert there is not None, f"{of}: {path.name} has no {verb}"


def check_make(words, of):
    folder, makefile = TOP, None
    if words[:1] == ["-C"]:
        folder, words = TOP / words[1], words[2:]
    makefile = folder / "Makefile"
    text = makefile.read_text() + "".join(p.read_text() for p in folder.glob("Kbuild"))
    for w in words:
        name, _, value = w.partition("=")
        if "=" not in w:
            # some rules are of several targets
            there = re.search(rf"^([\w-]+ )*{re.escape(w)}( [\w-]+)*:", text, re.M) is not None
            assert there, f"{of}: no target {w}"
            continue
        there = re.search(rf"\$[({{](if \$\()?{name}\b|ifn?(def|eq) .*{name}|^{name} *[?:]?=", text,
                          re.M)
        assert there is not None, f"{of}: no variable {name}"
        options = [o for o in shlex.split(value) if o.startswith("-")]
        if options:
            script = re.search(rf"([\w./-]+) \$[({{]{name}[)}}]", text).group(1)
            has_options(TOP / script, options, of)


def check_ooh(words, of):
    subcommand, options = words[0], []
    for w in words[1:]:
        if w == "--":
            break
        if w.startswith("-"):
            options.append(w)
    text = subprocess.run([OOH, subcommand, "--help"], capture_output=True, text=True, timeout=30)
    assert text.returncode == 0, f"{of}: ooh has no {subcommand}"
    for o in options:
        there = re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", text.stdout) is not None
        assert there, f"{of}: ooh {subcommand} has no {o}"


def check_in_guest(words, of):
    """What the machine runs: programs of ours have a source, whatever else the guest has."""
    if words[0] == "sh":
        for part in re.split(r"[;&|]+", words[2]):
            check_in_guest(part.split(), of)
        return
    if words[0] == "ooh":
        check_ooh(words[1:], of)
        return
    m = re.match(r"/usr/lib/ooh/(bench/|tests/)?([\w-]+)$", words[0])
    if not m:
        assert words[0] in ("criu", "hmp", "xl"), f"{of}: {words[0]}?"
        return
    folder, name = m.group(1), m.group(2)
    where = {"bench/": ["bench"], "tests/": ["tests/guest", "tests/host", "tests/hard"]}.get(folder)
    sources = [TOP / w / f"{name}.c" for w in where] if where else [TOP / f"tests/guest-{name}"]
    assert any(p.exists() for p in sources), f"{of}: no {words[0]}"


def check(command):
    """That it exists, whether it can be run here or not. Of what is elsewhere nothing is known."""
    if is_elsewhere(command):
        return
    for part in re.split(r" (?:&&|\|) ", command):
        words = shlex.split(re.sub(r"\$\([^)]*\)", "1", part).replace("<", "").replace(">", ""))
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if not words or words[0].startswith("..."):
            continue
        name = words[0].removeprefix("build/host/usr/bin/")
        if name == "make":
            check_make(words[1:], command)
        elif name == "ooh":
            check_ooh(words[1:], command)
        elif (TOP / name).is_file() and "/" in name:
            assert os.access(TOP / name, os.X_OK), f"{command}: {name} cannot be executed"
            rest = words[1:]
            if "--" in rest:
                rest, inner = rest[:rest.index("--")], rest[rest.index("--") + 1:]
                check_in_guest(inner, command)
            if name in ("testbed/vm", "scripts/patches"):
                has_verb(TOP / name, rest[0], command)
                if "--config" in rest:
                    machine = rest[rest.index("--config") + 1]
                    configs = (TOP / "testbed/configs").read_text()
                    there = re.search(rf"^{machine}\b", configs, re.M) is not None
                    assert there, f"{command}: no machine {machine}"
            if name != "tests/run":  # whose options are pytest's
                verb = rest[:1] if name == "testbed/vm" else []
                has_options(TOP / name, [w for w in rest if w.startswith("-")], command, *verb)
        else:
            ours = "/" in name and name.split("/")[0] in os.listdir(TOP)
            assert not ours, f"{command}: no {name}"


ALL = list(dict.fromkeys(commands()))


@pytest.mark.parametrize("path,command", ALL, ids=[f"{p}: {c}" for p, c in ALL])
def test_a_command_exists(path, command):
    check(command)


def test_commands_within_texts_exist():
    found = sorted(set(inline()))
    assert len(found) > 30
    for _, command in found:
        check(command)


@pytest.mark.parametrize("command",
                         ["make nothing", "make cost COST='--nothing 1'", "make cost NOTHING=1",
                          "scripts/nothing", "scripts/patches nothing",
                          "testbed/vm exec --config nothing -- ooh backends",
                          "testbed/vm exec -- ooh nothing",
                          "testbed/vm exec -- /usr/lib/ooh/tests/nothing",
                          "ooh record --nothing", "bench/run --nothing"])
def test_a_command_that_does_not_exist_is_found(command):
    with pytest.raises(AssertionError):
        check(command)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A redis-server, and a pidof that names no other one."""
    d = tmp_path_factory.mktemp("server")
    if not shutil.which("redis-server"):
        yield d, None
        return
    p = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", d / "socket",
                          "--save", "", "--dir", d],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(300):
        if (d / "socket").exists():
            break
        time.sleep(0.1)
    for name, line in (("pidof", f"echo {p.pid}"), ("ooh", f'exec "{OOH}" "$@"')):
        (d / name).write_text(f"#!/bin/sh\n{line}\n")
        (d / name).chmod(0o755)
    yield d, p.pid
    p.kill()
    p.wait()


RUN = [c for c in dict.fromkeys(c for _, c in ALL) if not reason(c)]


@pytest.mark.parametrize("command", RUN)
def test_a_command_runs_as_printed(command, server):
    d, pid = server
    if "pidof" in command and not pid:
        pytest.skip("there is no redis-server")
    here = command.replace("build/host/usr/bin/ooh", shlex.quote(OOH))
    r = subprocess.run(["sh", "-c", here], cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=60,
                       env={**os.environ, "PATH": f"{d}:{os.environ['PATH']}"})
    said = r.stdout[-1000:] + r.stderr[-1000:]
    assert r.returncode == 0, f"{command}: status {r.returncode}\n{said}"


def test_commands_within_lists_are_found():
    text = ("1. First:\n\n       make check\n\n2. Then\n   - this\n     and that\n\n"
            "- An item:\n\n      make lint\n\nText:\n\n    make\n")
    assert [b.strip() for b in Code(text).blocks] == ["make check", "make lint", "make"]


def test_some_commands_run():
    assert len(RUN) >= 3


@pytest.mark.parametrize("path", documents(), ids=str)
def test_what_a_document_names_exists(path):
    """Tests by name, and files by path."""
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=TOP, check=True,
                           stdout=subprocess.PIPE, text=True).stdout.split()
    names = {Path(f).name for f in files}
    patches = "\n".join((TOP / f).read_text() for f in files
                        if f.endswith(".patch") and not f.startswith("testbed/"))
    tests = "\n".join((TOP / f).read_text() for f in files
                      if f.startswith("tests/") and f.endswith((".py", ".c", ".sh")))
    missing = []
    for words in code(path).words:
        for name in re.findall(r"(?<![\w/.-])test_\w+(?:\.py|\.c)?", words):
            known = name in names or f"{name}.py" in names
            if not known and not re.search(rf"\b{name}\b", tests):
                missing.append(name)
        # of a folder of the tree, as far as it is written out
        if (re.fullmatch(r"(?:[\w.-]+/)+[\w.-]+\.(?:c|h|py|md|rst|txt|sh)", words)
                and words.split("/")[0] in os.listdir(TOP)):
            # a new file of a patch's is as good
            if (words not in files and not words.startswith("build/")
                    and f"+++ b/{words}" not in patches):
                missing.append(words)
    assert not missing
