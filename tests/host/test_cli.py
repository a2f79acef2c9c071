# SPDX-License-Identifier: GPL-2.0-only
"""The command: arguments, exit statuses, messages that name the cause."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import LOGS
from hostlib import HERE, NATIVE, OOH, TOP, backends, compile_c, need, ooh

ME = os.getpid()


def lines(r):
    """What ooh record --json prints."""
    return [json.loads(line) for line in r.stdout.splitlines()]


WRONG = [
    ([], "Usage:"),
    (["frobnicate"], "frobnicate"),
    (["record"], "-p PID"),
    (["verify"], "-p PID"),
    (["record", "-p", "1", "--", "true"], "not both"),
    (["record", "-n", "0", "-p", "1"], '"0"'),
    (["record", "-n", "-1", "-p", "1"], '"-1"'),
    (["record", "-n", "1x", "-p", "1"], '"1x"'),
    (["record", "-n", "99999999999999999999", "-p", "1"], "-n"),
    (["record", "-i", "-1", "-p", "1"], '"-1"'),
    (["verify", "-i", "", "-p", "1"], "-i"),
    (["verify", "-p", "0"], '"0"'),
    (["verify", "-p", "init"], '"init"'),
    (["record", "-b", "magic", "-p", "1"], "epml, spml, pagemap-scan, uffd-wp, soft-dirty"),
    (["record", "-b", "none", "-p", "1"], "none"),
    (["verify", "-b", "", "-p", "1"], "none (the oracle alone)"),
    (["record", "--colour", "-p", "1"], "colour"),
    (["backends", "extra"], "extra"),
    (["top"], "-p PID"),
    (["top", "-p", "1,x"], '"x"'),
    (["top", "-p", "1,"], '""'),
    (["top", "-p", "1", "--", "true"], "not both"),
    (["top", "-b", "none", "-p", "1"], "epml, spml, pagemap-scan, uffd-wp, soft-dirty"),
    (["top", "-p", "1"], "--batch"),
    (["record", "-p"], "requires an argument"),
]


@pytest.mark.parametrize("args,word", WRONG, ids=[" ".join(w[0]) or "(nothing)" for w in WRONG])
def test_wrong_usage(args, word):
    r = ooh(*args)
    assert r.returncode == 2, r.stderr
    assert word in r.stderr and r.stdout == ""


@pytest.mark.parametrize("args", [["--help"], ["record", "--help"], ["verify", "--help"],
                                  ["top", "--help"],
                                  ["backends", "--help"], ["--version"], ["record", "--version"]])
def test_help(args):
    r = ooh(*args)
    assert r.returncode == 0 and r.stderr == "" and "ooh" in r.stdout


def subcommands():
    """Those that the help lists."""
    return re.findall(r"^  (\w+)  ", ooh("help").stdout.split("\n\n")[1], re.M)


def test_help_lists_the_subcommands():
    assert {"backends", "record", "verify", "top", "checkpoint", "restore"} <= set(subcommands())
    assert ooh("help").stdout == ooh("-h").stdout == ooh("--help").stdout == ooh().stderr
    assert all(len(line) < 80 for line in ooh("help").stdout.splitlines())


def test_three_ways_to_ask_for_help():
    for sub in subcommands():
        texts = {ooh(*args).stdout for args in ((sub, "--help"), (sub, "-h"), ("help", sub))}
        assert len(texts) == 1 and texts.pop().startswith(f"Usage: ooh {sub} ")


def test_help_of_a_part_of_a_subcommand():
    for word in re.search(r"ooh checkpoint ([\w|]+) DIR", ooh("help", "checkpoint").stdout)[1].split("|") + ["prune", "merge"]:
        text = ooh("help", "checkpoint", word).stdout
        assert text.startswith(f"Usage: ooh checkpoint {word} ") and text == ooh("checkpoint", word, "-h").stdout


def test_no_help_for_what_is_not_there():
    r = ooh("help", "frobnicate")
    assert r.returncode == 2 and r.stdout == ""
    assert r.stderr == 'ooh: there is no subcommand "frobnicate"; "ooh help" lists them\n'


def test_messages_begin_with_the_subcommand():
    """The parser's and our own."""
    for args in (["record"], ["record", "--nosuch"], ["record", "-p", "4000000"], ["record", "--", "/no/such"]):
        assert ooh(*args).stderr.startswith("ooh record: "), args


def test_backends():
    b = backends()
    assert list(b) == ["epml", "spml", "pagemap-scan", "uffd-wp", "soft-dirty"]
    assert all(x["reason"] for x in b.values())
    text = ooh("backends").stdout.splitlines()
    assert [l.split()[0] for l in text] == list(b)
    for line, x in zip(text, b.values()):
        assert ("not usable" in line) == (not x["usable"]) and x["reason"] in line


def test_absent_device():
    if Path("/dev/ooh").exists():
        pytest.skip("/dev/ooh is there")
    for log in LOGS:
        assert "/dev/ooh is absent" in backends()[log]["reason"]
        r = ooh("record", "-b", log, "-n", 1, "-p", ME)
        assert r.returncode == 3 and "/dev/ooh is absent" in r.stderr


@pytest.mark.parametrize("sub", [["record"], ["verify"], ["top", "--batch"]])
def test_no_such_process(sub):
    pid = int(Path("/proc/sys/kernel/pid_max").read_text()) - 1
    r = ooh(*sub, "-p", pid)
    assert r.returncode == 3 and str(pid) in r.stderr


def test_kernel_thread():
    if not Path("/proc/2/maps").exists() or Path("/proc/2/maps").read_text():
        pytest.skip("process 2 is no thread of the kernel here")
    r = ooh("record", "-p", 2)
    assert r.returncode == 3 and "has no memory" in r.stderr


def test_thread_is_not_a_process(tmp_path):
    p = subprocess.Popen(["python3", "-c", "import threading,time\n"
                          "threading.Thread(target=time.sleep,args=(20,)).start()"])
    try:
        limit, tids = time.time() + 30, []
        while len(tids) < 2 and time.time() < limit:
            time.sleep(0.1)
            tids = [int(t.name) for t in Path(f"/proc/{p.pid}/task").iterdir()]
        tid = next(t for t in tids if t != p.pid)
        r = ooh("record", "-n", 1, "-p", tid)
        assert r.returncode == 3 and "thread" in r.stderr
    finally:
        p.kill()
        p.wait()


def test_not_permitted():
    if os.geteuid():
        pytest.skip("needs root, to be somebody else")
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    r = subprocess.run([OOH, "record", "-n", "1", "-p", str(ME)], capture_output=True, text=True,
                       user=65534, group=65534, extra_groups=[], env=env)
    assert r.returncode == 3 and "belongs to user root" in r.stderr and "not permitted" in r.stderr


def test_command_not_there():
    r = ooh("verify", "--", "/no/such/program")
    assert r.returncode == 127 and "/no/such/program" in r.stderr


@pytest.mark.parametrize("backend", NATIVE)
def test_process_that_ends_too_early(backend):
    need(backend)
    for sub in ("record", "verify"):
        p = subprocess.Popen(["sleep", "3"])
        r = ooh(sub, "-b", backend, "-n", 1000, "-i", 50, "--json", "-p", p.pid)
        p.wait()
        assert r.returncode == 4 and "ended" in r.stderr
        rounds = lines(r) if sub == "record" else json.loads(r.stdout)["rounds"]
        assert 1 <= len(rounds) < 1000


def test_command_that_ends_is_fine():
    need("pagemap-scan")
    for args, word in ((["sleep", "0.3"], ""), (["sh", "-c", "sleep 0.2; exit 3"], "status 3"),
                       (["sh", "-c", "sleep 0.2; kill -9 $$"], "signal 9")):
        r = ooh("verify", "-b", "pagemap-scan", "-i", 50, "--", *args)
        assert r.returncode == 0 and word in r.stderr
        assert r.stdout.splitlines()[-1].startswith("total")


def test_nothing_verified_is_no_success():
    need("pagemap-scan")
    r = ooh("verify", "-b", "pagemap-scan", "-i", 500, "--", "true")
    assert r.returncode == 4 and "nothing was verified" in r.stderr


def test_command_does_not_outlive_the_rounds():
    need("pagemap-scan")
    t = time.monotonic()
    r = ooh("record", "-b", "pagemap-scan", "-n", 2, "-i", 10, "--json", "--", "sleep", "1000")
    assert r.returncode == 0 and time.monotonic() - t < 30
    assert not Path(f"/proc/{lines(r)[-1]['pid']}").exists()


def test_json_is_not_mixed_with_the_command():
    need("pagemap-scan")
    r = ooh("record", "--json", "-b", "pagemap-scan", "-n", 1, "-i", 200, "--", "sh", "-c",
            "echo hello; sleep 5")
    doc, = lines(r)
    assert "hello" in r.stderr
    for x in doc["ranges"] + doc["unknown_ranges"]:
        assert re.fullmatch("0x[0-9a-f]+", x["start"]) and int(x["start"], 16) < int(x["end"], 16)


def test_automatic_choice_says_why():
    need("pagemap-scan")
    doc, = lines(ooh("record", "--json", "-n", 1, "-i", 1, "--", "sleep", "9"))
    first = next(n for n, b in backends().items() if b["usable"])
    assert doc["backend"] == first and doc["choice"].startswith(f"using {first}")
    if first == "pagemap-scan":  # the answer first, then each reason once
        assert re.fullmatch(r"using pagemap-scan \(epml, spml: /dev/ooh is absent: [^:;]*\)", doc["choice"])


def pages(ranges):
    return sum(int(x["end"], 16) - int(x["start"], 16) for x in ranges) // 4096


@pytest.mark.parametrize("backend", NATIVE)
def test_record_prints_a_line_a_round(backend):
    """Each as soon as its round has ended, with the two counts, and complete in itself."""
    need(backend)
    p = subprocess.Popen([OOH, "record", "--json", "-b", backend, "-i", "50", "--", "sleep", "60"],
                         stdout=subprocess.PIPE, text=True)
    try:
        docs = [json.loads(p.stdout.readline()) for _ in range(4)]
        # it sleeps, sooner or later: what it has is of files or not written
        while docs[-1]["written"] and len(docs) < 200:
            docs.append(json.loads(p.stdout.readline()))
        assert p.poll() is None
    finally:
        p.terminate()
        p.communicate(timeout=20)
    assert [d["round"] for d in docs] == list(range(1, len(docs) + 1))
    for d in docs:
        assert d["backend"] == backend and not d["all_dirty"]
        assert d["written"] == pages(d["ranges"]) and d["unknown"] == pages(d["unknown_ranges"])
    assert docs[-1]["written"] == 0


@pytest.mark.parametrize("backend", NATIVE)
def test_text_and_verify_have_both_counts(backend):
    need(backend)
    work = subprocess.Popen(["sleep", "60"])
    time.sleep(0.3)
    try:
        doc, = lines(ooh("record", "--json", "-b", backend, "-n", 1, "-p", work.pid))
        text = ooh("record", "-b", backend, "-n", 2, "-p", work.pid).stdout
        # to be stopped in the middle of a call costs a page or two of its stack
        rows = re.findall(r"^round \d+: (\d+) pages written in \d+ ranges"
                          r"(?:, not known of (\d+) pages of files or shared memory)?$", text, re.M)
        assert [bool(unknown) for _, unknown in rows] == [bool(doc["unknown"])] * 2
        written, unknown = (sum(int(n or 0) for n in column) for column in zip(*rows))
        assert written < 5
        total = f", not known of {unknown}" if unknown else ""
        assert f"\n2 rounds, {written} pages written{total}, with {backend}\n" in text
        out = json.loads(ooh("verify", "--json", "-b", backend, "-n", 2, "-p", work.pid).stdout)
        last = out["rounds"][-1]
        assert last["written"] < 5 and bool(last["unknown"]) == bool(doc["unknown"])
        assert last["reported"] == last["written"] + last["unknown"]
        assert out["total"]["unknown"] == sum(r["unknown"] for r in out["rounds"])
        row = ooh("verify", "-b", backend, "-n", 2, "-p", work.pid).stdout.splitlines()
        assert row[1].split()[:6] == ["round", "mapped", "changed", "written", "unknown", "missed"]
        assert int(row[3].split()[3]) < 5 and bool(int(row[3].split()[4])) == bool(doc["unknown"])
    finally:
        work.kill()
        work.wait()


WRITER = """
import mmap, sys, time
file = open(sys.argv[1], "r+b")
areas = [mmap.mmap(-1, 40 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
         mmap.mmap(file.fileno(), 40 * 4096, mmap.MAP_PRIVATE)]
print("ready", flush=True)
while True:
    for area in areas:
        area[:] = b"x" * len(area)
    time.sleep(0.01)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that writes a private mapping of a file, and memory of its own."""
    need("pagemap-scan")
    data = tmp_path / "data file"
    data.write_bytes(bytes(40 * 4096))
    p = subprocess.Popen(["python3", "-c", WRITER, str(data)], stdout=subprocess.PIPE)
    p.stdout.readline()
    yield p, str(data)
    p.kill()
    p.wait()
    p.stdout.close()


def mappings(pid):
    """(start, end, name) of each, as the kernel lists them."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, _, _, _, _, *name = line.split(None, 5)
        yield (*(int(x, 16) for x in span.split("-")), name[0].strip() if name else "")


def test_record_names_the_mappings(writer):
    p, data = writer
    docs = lines(ooh("record", "--json", "-b", "pagemap-scan", "-n", 20, "-i", 50, "-p", p.pid))
    listed = list(mappings(p.pid))
    seen = {}
    for x in (x for d in docs for x in d["ranges"] + d["unknown_ranges"]):
        start, end = int(x["start"], 16), int(x["end"], 16)
        names = {name[:95] for s, e, name in listed if s < end and start < e}
        assert names == {x["mapping"]}, x
        seen.setdefault(x["mapping"], set()).update(range(start, end, 4096))
    assert len(seen[data]) == 40 and len(seen[""]) >= 40
    text = ooh("record", "-b", "pagemap-scan", "-n", 20, "-i", 50, "-p", p.pid).stdout
    assert re.search(rf"^  [0-9a-f]{{12}}-[0-9a-f]{{12}} +\d+  {re.escape(data)}$", text, re.M)


def table(text):
    """The sums at the end: mapping -> (written, per round, unknown)."""
    rows = text[text.index("WRITTEN"):].splitlines()[1:]
    return {name: (int(w), float(r), int(u)) for w, r, u, name in (row.split(None, 3) for row in rows)}


def test_record_ends_with_sums(writer):
    p, data = writer
    text = ooh("record", "-b", "pagemap-scan", "-n", 4, "-i", 250, "-p", p.pid).stdout
    rows = re.findall(r"^  \S+ +(\d+)  (.*)$", text, re.M)
    sums = table(text)
    for name, (written, per_round, _) in sums.items():
        assert written == sum(int(n) for n, x in rows if x == name)
        assert abs(per_round - written / 4) < 0.051
    assert sums[data][0] > 0
    unknown = re.search(r"not known of (\d+), with", text)
    assert sum(u for _, _, u in sums.values()) == (int(unknown[1]) if unknown else 0)


def test_a_summary_is_all_there_is(writer):
    p, data = writer
    text = ooh("record", "--summary", "-b", "pagemap-scan", "-n", 4, "-p", p.pid).stdout
    assert "\nround" not in text and "\n4 rounds, " in text and data in table(text)
    doc, = lines(ooh("record", "--summary", "--json", "-b", "pagemap-scan", "-n", 4, "-p", p.pid))
    assert doc["rounds"] == 4 and doc["backend"] == "pagemap-scan"
    for count in ("written", "unknown"):
        assert doc[count] == sum(m[count] for m in doc["mappings"])
    assert doc["mappings"] == sorted(doc["mappings"], key=lambda m: (-m["written"], -m["unknown"], m["mapping"]))


def test_parts_of_ranges(tmp_path):
    san = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    p = compile_c(tmp_path / "u", HERE / "unit_sums.c", TOP / "libooh/cmd/sums.c", flags=san)
    r = subprocess.run([p], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr


def test_oracle_without_tracker():
    r = ooh("verify", "-b", "none", "-n", 2, "-i", 20, "--json", "--", "sleep", "9")
    doc = json.loads(r.stdout)
    assert r.returncode == 0 and doc["backend"] == "none"
    assert doc["total"]["missed"] == doc["total"]["reported"] == doc["total"]["extra"] == 0


@pytest.mark.parametrize("sub", [["record"], ["record", "--json"], ["verify", "-n", "100000"], ["top", "--batch"],
                                 ["top", "--json"]], ids=" ".join)
def test_a_reader_that_goes_away_ends_it_quietly(sub):
    """As SIGPIPE ends other programs; the process runs on."""
    need("pagemap-scan")
    work = subprocess.Popen(["sleep", "60"])
    try:
        p = subprocess.Popen([OOH, *sub, "-b", "pagemap-scan", "-i", "10", "-p", str(work.pid)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        p.stdout.read(10)
        p.stdout.close()
        err = p.stderr.read()
        p.stderr.close()
        assert (p.wait(timeout=50), err) == (-signal.SIGPIPE, "")
        assert work.poll() is None
    finally:
        work.kill()
        work.wait()


@pytest.mark.parametrize("sub", [["backends"], ["backends", "--json"], ["help"], ["record", "--", "sleep", "60"],
                                 ["verify", "--", "sleep", "60"], ["top", "--batch", "--", "sleep", "60"]], ids=" ".join)
def test_output_that_cannot_be_written_is_an_error(sub):
    with open("/dev/full", "w") as full:
        r = subprocess.run([OOH, *sub], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 3 and "standard output: No space left on device" in r.stderr


@pytest.fixture
def nobody(tmp_path_factory):
    """Runs the command as somebody who is not root."""
    if os.geteuid():
        pytest.skip("needs root, to be somebody else")
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*args):
        return subprocess.run([OOH, *map(str, args)], capture_output=True, text=True, timeout=60, cwd="/",
                              user=65534, group=65534, extra_groups=[], env=env)

    return run


@pytest.mark.parametrize("sub", [["record"], ["verify"], ["top", "--batch"]], ids=" ".join)
def test_without_privileges_it_works_or_says_why(nobody, sub):
    listed = {line.split()[0]: line for line in nobody("backends").stdout.splitlines()}
    for backend, line in listed.items():
        r = nobody(*sub, "-b", backend, "-n", 2, "-i", 20, "--", "sleep", "60")
        if " not usable " in line:
            assert r.returncode == 3 and line.split("not usable")[1].strip() in r.stderr
        else:
            assert r.returncode == 0 and backend in r.stdout, r.stderr


def test_traced_by_another(tmp_path):
    need("pagemap-scan")
    code = ("import ctypes,sys,time\nlibc=ctypes.CDLL(None,use_errno=True)\n"
            "sys.exit(9) if libc.ptrace(0x4206,int(sys.argv[1]),None,None) else print('ok',flush=True)\n"
            "time.sleep(30)")
    work = subprocess.Popen(["sleep", "30"])
    tracer = subprocess.Popen(["python3", "-c", code, str(work.pid)], stdout=subprocess.PIPE)
    try:
        assert tracer.stdout.readline() == b"ok\n"
        r = ooh("verify", "-n", 1, "-p", work.pid)
        assert r.returncode == 3 and "another program traces it" in r.stderr
    finally:
        for p in (tracer, work):
            p.kill()
            p.wait()
        tracer.stdout.close()


def metrics(text):
    """OpenMetrics, strictly: {name: {labels: value}} of the samples."""
    rows = text.splitlines()
    assert rows[-1] == "# EOF" and text.endswith("\n")
    families, samples, unit = {}, {}, {}
    for row in rows[:-1]:
        if m := re.fullmatch(r"# (TYPE|UNIT|HELP) (\w+) (.+)", row):
            if m[1] == "TYPE":
                assert m[2] not in families
                families[m[2]] = m[3]
            assert m[2] == list(families)[-1], "each family in one piece"
            unit[m[2]] = m[3] if m[1] == "UNIT" else unit.get(m[2])
            continue
        name, labels, value = re.fullmatch(r'(\w+)\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\} (\S+)', row).groups()
        family = list(families)[-1]
        suffix = {"counter": "_total", "info": "_info", "gauge": ""}[families[family]]
        assert name == family + suffix and (not unit[family] or family.endswith(unit[family])), row
        samples.setdefault(name, {})[labels] = float(value)
    return samples


def test_metrics_of_the_machine():
    m = metrics(ooh("metrics").stdout)
    usable = {n: float(b["usable"]) for n, b in backends().items()}
    assert m["ooh_backend_usable"] == {f'backend="{n}"': v for n, v in usable.items()}
    assert "ooh_up" not in m


def test_metrics_of_processes(writer):
    p, _ = writer
    other = subprocess.Popen(["sleep", "60"])
    r = ooh("metrics", "-b", "pagemap-scan", "-n", 3, "-i", 200, "-p", f"{p.pid},{other.pid}")
    other.kill()
    other.wait()
    assert r.returncode == 0, r.stderr
    rounds = [metrics(text + "# EOF\n") for text in r.stdout.split("# EOF\n")[:-1]]
    labels = [x for x in rounds[0]["ooh_up"] if f'pid="{p.pid}"' in x]
    assert len(rounds) == 3 and len(labels) == 1 and len(rounds[0]["ooh_up"]) == 2
    assert [x["ooh_rounds_total"][labels[0]] for x in rounds] == [1, 2, 3]
    written = [x["ooh_written_bytes_total"][labels[0]] for x in rounds]
    assert written == sorted(written) and written[-1] > 0 and written[-1] % 4096 == 0
    assert rounds[-1]["ooh_mapped_bytes"][labels[0]] > 80 * 4096


def test_metrics_into_a_file(tmp_path):
    """As a whole at each moment; it has the end of the process, too."""
    need("pagemap-scan")
    out = tmp_path / "ooh.prom"
    p = subprocess.Popen([OOH, "metrics", "-i", "20", "-o", str(out), "--", "sleep", "60"])
    try:
        limit, seen = time.monotonic() + 30, set()
        while len(seen) < 5 and time.monotonic() < limit:
            if out.exists():
                seen.add(max(metrics(out.read_text())["ooh_rounds_total"].values()))
        assert len(seen) == 5 and [x.name for x in tmp_path.iterdir() if x.suffix == ".prom"] == ["ooh.prom"]
    finally:
        p.terminate()
        assert p.wait(timeout=30) == 0
    r = ooh("metrics", "-o", tmp_path / "no" / "where", "--", "sleep", "60")
    assert r.returncode == 3 and "No such file or directory" in r.stderr


def test_metrics_cannot_be_steered_by_a_name(tmp_path):
    need("pagemap-scan")
    evil = tmp_path / 'a"}\\ 1\x1b'
    evil.symlink_to("/bin/sleep")
    m = metrics(ooh("metrics", "-i", 20, "--", evil, "9").stdout)
    assert [x for x in m["ooh_up"] if r'command="a\"}\\ 1?"' in x], m["ooh_up"]
