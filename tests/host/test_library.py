# SPDX-License-Identifier: GPL-2.0-only
"""What a program that uses libooh meets: header, symbols, pkg-config, man pages, examples."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hostlib import OOH, TOP, USE_LIB, compile_c, need

EXAMPLES = sorted(p.stem for p in (TOP / "libooh/examples").glob("*.c"))


@pytest.fixture(scope="module")
def root():
    """The tree that make install has made."""
    r = Path(OOH).resolve().parent.parent.parent
    if not (r / "usr/lib/pkgconfig/libooh.pc").exists():
        pytest.skip("OOH_BIN is in no installed tree")
    return r


def functions():
    text = re.sub(r"/\*.*?\*/", "", (TOP / "libooh/include/ooh.h").read_text(), flags=re.S)
    return set(re.findall(r"\b(ooh_\w+)\(", text))


@pytest.fixture(scope="module")
def examples(root, tmp_path_factory):
    d = tmp_path_factory.mktemp("examples")
    env = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(root),
           "PKG_CONFIG_LIBDIR": str(root / "usr/lib/pkgconfig")}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libooh"], env=env, check=True,
                           text=True,
                           stdout=subprocess.PIPE).stdout.split()
    for name in EXAMPLES:
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", d / name,
                        TOP / f"libooh/examples/{name}.c",
                        *flags, f"-Wl,-rpath,{root}/usr/lib"], check=True)
    return d


def test_symbols(root):
    """What the header declares, with its version, and nothing else."""
    out = subprocess.run(["nm", "-D", "--defined-only", root / "usr/lib/libooh.so"], check=True,
                         text=True,
                         stdout=subprocess.PIPE).stdout
    names = {line.split()[2] for line in out.splitlines() if line.split()[1] != "A"}
    later = {"ooh_written": "_1.1", "ooh_unknown": "_1.1"}
    assert names == {f"{f}@@LIBOOH{later.get(f, '_1')}" for f in functions()}


def test_header_alone(root, tmp_path):
    """It needs no other header before it, and holds for strict C99."""
    c = tmp_path / "h.c"
    c.write_text("#include <ooh.h>\nint main(void) { ooh_close(0); return 0; }\n")
    subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
                    f"-I{root}/usr/include", c], check=True)


def test_every_call_has_its_manual(root):
    """man CALL finds a page that has its prototype, as the header has it,
    and what EINVAL is for."""
    header = re.sub(r"/\*.*?\*/", "", (TOP / "libooh/include/ooh.h").read_text(), flags=re.S)
    for f in functions():
        text = (root / f"usr/share/man/man3/{f}.3").read_text()
        if to := re.search(r"^\.so (.*)", text, re.M):
            text = (root / "usr/share/man" / to[1]).read_text()
        declared = re.search(rf"^[^;#{{}}]*\b{f}\([^;]*;", header, re.M)[0]
        shown = re.search(rf"^\.BI? [^;\n]*\b{f}\([^;]*;", text, re.M)[0]
        shown = re.sub(r'^\.BI?|["\\]', "", shown, flags=re.M)
        assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", declared), f


def test_the_module_is_not_exposed(tmp_path):
    """The header stands without the module's, and beside it."""
    made = subprocess.run(["make", "-n", "-C", TOP / "libooh", f"O={tmp_path}",
                           f"DESTDIR={tmp_path}", "prefix=/usr", "install"],
                          check=True, text=True, stdout=subprocess.PIPE).stdout
    assert f"{tmp_path}/usr/include/ooh.h" in made
    assert "include/ooh/" not in re.sub(r"-I\S*", "", made)
    for first, second in (("ooh.h", "ooh/uapi.h"), ("ooh/uapi.h", "ooh.h")):
        c = tmp_path / "both.c"
        c.write_text(f"#include <{first}>\n#include <{second}>\nstruct ooh_range r;\n")
        subprocess.run(["cc", "-Wall", "-Werror", "-fsyntax-only", f"-I{TOP}/libooh/include",
                        f"-I{TOP}/include", c],
                       check=True)


def test_version(root):
    out = subprocess.run(["pkg-config", "--modversion", root / "usr/lib/pkgconfig/libooh.pc"],
                         check=True, text=True,
                         stdout=subprocess.PIPE).stdout.strip()
    header = (TOP / "libooh/include/ooh.h").read_text()
    numbers = [re.search(rf"OOH_VERSION_{x} (\d+)", header)[1] for x in ("MAJOR", "MINOR", "PATCH")]
    assert out == ".".join(numbers) and (root / f"usr/lib/libooh.so.{out}").exists()
    assert subprocess.run([OOH, "--version"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout == f"ooh {out}\n"


def test_static_library(root, tmp_path):
    subprocess.run(["cc", "-o", tmp_path / "self", TOP / "libooh/examples/self.c",
                    f"-I{root}/usr/include",
                    root / "usr/lib/libooh.a", "-pthread"], check=True)


def run(*argv, **kw):
    return subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True,
                          timeout=60, **kw)


def test_example_other(examples):
    need("pagemap-scan")
    work = subprocess.Popen(["sleep", "30"])
    try:
        r = run(examples / "other", work.pid, 3)
        assert r.returncode == 0
        assert len(re.findall(r"^\d+ KiB in \d+ ranges$", r.stdout, re.M)) == 3
    finally:
        work.kill()
        work.wait()
    r = run(examples / "other", work.pid)
    assert r.returncode == 1 and f"no process {work.pid}" in r.stderr


def test_example_self(examples):
    need("pagemap-scan")
    r = run(examples / "self")
    assert r.returncode == 0 and r.stdout.count("the copy is complete") == 10
    # and it is not simply a copy of everything
    copied = [int(n) for n in re.findall(r"(\d+) of 4096 KiB copied", r.stdout)]
    assert len(copied) == 10 and max(copied) <= 20 * 4


def test_example_loop(examples):
    need("pagemap-scan")
    work = subprocess.Popen(["sleep", "2.5"])
    reaper = subprocess.Popen([examples / "loop", str(work.pid)], stdout=subprocess.PIPE, text=True)
    work.wait()
    out, _ = reaper.communicate(timeout=20)
    assert reaper.returncode == 0 and "by the clock" in out
    r = run(examples / "loop")
    assert r.returncode == 2 and r.stderr.startswith("usage: loop PID")
    assert out.count("because of the clock") >= 1
    assert out.strip().endswith(f"process {work.pid} ended")


def test_descriptors_that_the_program_closed(tmp_path):
    """A daemon closes everything and opens its own: they are neither read nor
    closed for the tracker's."""
    need("pagemap-scan")
    guest = TOP / "tests" / "guest"
    r = subprocess.run([compile_c(tmp_path / "closed", guest / "closed.c",
                                  flags=[*USE_LIB, f"-I{guest}"])],
                       stdout=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 0 and r.stdout.count("ok:") == 5, r.stdout


def limits_of_the_manual():
    text = (TOP / "libooh/man/ooh.7").read_text()
    text = text[text.index(".SH LIMITS"):text.index(".PP\nA few system calls")]
    for item in text.split(".TP\n")[1:]:
        head, body = item.split("\n", 1)
        body = body.replace("\\-", "-").replace("\\&", "")
        yield head.replace("\\", "").split('"')[1], " ".join(body.split())


def limits_of_the_argument():
    text = (TOP / "docs/soundness.md").read_text()
    text = text[text.index("### What each kind of tracker cannot follow"):]
    for row in re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", text, re.M):
        if row[0] != "tracker":
            yield row[0], f"{row[1]}. {row[2]}"


def test_limits_are_the_same():
    """What is not followed stands in two places, word for word."""
    assert list(limits_of_the_manual()) == list(limits_of_the_argument()) != []


def test_every_tracepoint_has_its_manual():
    """Names and fields, as the module's header declares them."""
    header = (TOP / "guest-kmod/trace.h").read_text()
    text = (TOP / "libooh/man/ooh.7").read_text()
    text = text[text.index(".SH TRACEPOINTS"):text.index(".SH THREADS")]
    events = dict(re.findall(r"TRACE_EVENT\((\w+),(.*?)\n\);", header, re.S))
    items = dict(re.findall(r"^\.TP\n\.B (\w+)\n(.*?)(?=^\.TP|^\.PP)", text, re.M | re.S))
    assert items.keys() == events.keys() != set()
    for name, declared in events.items():
        for field in re.findall(r"__field\([^,]*, (\w+)\)", declared):
            assert re.search(rf"\b{field}\b", items[name]), (name, field)
    for event, field in re.findall(r"tracepoint:ooh:(\w+) \{[^}]*args\\->(\w+)", text):
        assert f", {field})" in events[event]
