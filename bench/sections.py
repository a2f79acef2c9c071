# SPDX-License-Identifier: GPL-2.0-only
"""The sections of the report. Each takes what was measured, and says it on the page."""

from __future__ import annotations

import functools
import statistics

from bench import figures
from bench.page import Page, count, number
from bench.raw import Line
from bench.series import (LOGS, MILLION, Measured, Program, Series, Spread, ordered, per_page,
                          spread, value_of)

EXITS = ["exits", "exit_log_full", "exit_vmcall", "exit_interrupt", "exit_cpuid", "exit_hlt",
         "exit_msr_write", "exit_ept_violation", "exit_ept_misconfig", "mov_cr3", "invlpg",
         "invpcid", "invept"]
EVENTS = ["guest_page_faults", "exception", "syscall", "walk", "nested_walk", "ad_update",
          "pml_record", "epml_record", "epml_notifications", "vmfunc", "ipi"]


def signed(values: Spread) -> list[str]:
    return [f"{v:+.2f}" for v in values.three()]


def numbers(values: Spread) -> list[str]:
    return [number(v) for v in values.three()]


def pages(page: Page, section: str, s: Series) -> list[str]:
    """What was reported and how right that was, for the CSV; and the cells of a table."""
    found = {k: s.of(value_of(k)) for k in ("reported", "missed", "extra")}
    for k, v in found.items():
        page.record(section, s, k, "pages", v)
    return [number(found["reported"].median, 6), number(found["missed"].max, 6),
            number(found["extra"].median, 6)]


def events(m: Measured, page: Page) -> None:
    found = [s for s in m.of("headline", "mib") if "exits" in s.rounds[0]]
    if not found:
        return
    page.title("Events of a round")
    page.text(f"""An array is written over and over while a collector ends a round every
        {found[0].key.milliseconds / 1000:g} s (the rounds of the first table). What there is more
        of each event than in as long a time without a tracker, of the whole machine: the median of
        {count(len(found[0].rounds), "round")}. A dash: no more than rounds without a tracker differ
        by. The CSV has all, with least and most.""")
    for names, note in (
            (EXITS, "VM exits, all and by reason; what flushes the TLB."),
            (EVENTS, "The others; pages that were missed and extra are in the first table.")):
        rows = []
        for s in found:
            cells = []
            for n in names:
                more = s.more(n)
                told = abs(more.median) > m.noise(s, n)
                cells.append(number(round(more.median), 6) if told else "-")
                page.record("events", s, n, "more than without, a round", more)
            rows.append([f"{s.key.mib} MiB", s.backend, *cells])
        heads = [n.replace("exit_", "").replace("_", " ") for n in names]
        page.table(["array", "tracker", *heads], rows,
                   f"{note} Substrate: {m.substrate('headline')}.")


def headline(m: Measured, page: Page) -> None:
    found = m.of("headline", "mib")
    if not found:
        return
    page.title("What the tracked program pays")
    page.text(f"""A program writes its array over and over, word by word; a collector ends a round
        every {found[0].key.milliseconds / 1000:g} s. Slow-down: cycles for each page gone over,
        compared with rounds without a tracker before and after it in the same run; on one
        processor the collector's own time is taken off, and given in the table.""")
    page.figure(functools.partial(figures.sizes, found=found),
                "Slow-down of the tracked program by size of its array; bars from the least to the "
                "largest round.", m.substrate("headline"))
    page.text("""Missed: pages written that the round did not report; extra: pages reported that
        were not written, both known from where the writer was; of what is written while a round
        ends, only the next round is sure.""")
    rows = []
    for s in found:
        slow, collect = s.slowdown(), s.collect()
        own = s.of(lambda r: float((r["collect"] + r["helpers"]) / r["ticks"] * 100))
        page.record("headline", s, "slow-down", "%", slow)
        page.record("headline", s, "collector's share of the processor", "%", own)
        page.record("headline", s, "end of a round", "million cycles", collect)
        rows.append([f"{s.key.mib} MiB", s.backend, *signed(slow), f"{own.median:.2f}",
                     number(collect.median), *pages(page, "headline", s)])
    page.table(["array", "tracker", "slow-down min, %", "median", "max", "collector, % of time",
                "end of a round, M cycles", "reported", "missed", "extra"], rows,
               f"Of {count(found[0].slowdown().runs, 'round')} each. "
               f"Substrate: {m.substrate('headline')}.")
    noise(m, page)


def noise(m: Measured, page: Page) -> None:
    bare: dict[int, list[float]] = {}
    for s in m.series:
        if s.key.part == "headline" and s.backend == "none":
            bare.setdefault(s.key.mib, []).extend(map(per_page, s.rounds))
    rows = []
    for mib, rounds in sorted(bare.items()):
        if len(rounds) > 1:
            differ = 100 * (max(rounds) / min(rounds) - 1)
            page.fact("headline", "none", mib, "rounds differ by", "%", differ,
                      m.lines[0]["substrate"], len(rounds))
            rows.append([f"{mib} MiB", len(rounds), number(statistics.median(rounds), 5),
                         f"{differ:.2f}"])
    page.text("How far to believe it: what rounds without a tracker differ by in the same run. "
              "A slow-down below that is none.")
    page.table(["array", "rounds without", "cycles a page", "they differ by, %"], rows,
               f"Substrate: {m.substrate('headline')}.")


def phases(m: Measured, page: Page) -> None:
    """From rounds in which the program waits: the module's clock goes on when the program runs
    during the end of a round."""
    found = [s for s in m.of("phases", "mib") if s.backend in LOGS]
    names = ("drain", "map", "arm")
    rows = []
    for s in found:
        cells = []
        for name in names:
            v = s.of(value_of(name, MILLION))
            page.record("phases", s, name, "million cycles", v)
            cells += numbers(v)
        rows.append([f"{s.key.mib} MiB", s.backend, *cells, number(s.collect().median)])
    if not rows:
        return
    page.title("Phases of the end of a round")
    page.text("""All of the array is written once, then the round ends, and the program waits for
        it. drain: the log is emptied and read; map: frames become pages; arm: frames are armed.
        With SPML what was written is armed again by the call that drains, in drain. With EPML most
        of the log is emptied before, in interrupts of the program. What the end of a round takes
        beside them is the way from and to the library.""")
    heads = [f"{n} {k}" for n in names for k in ("min", "median", "max")]
    page.table(["array", "tracker", *heads, "end of a round"], rows,
               f"Million cycles. Of {count(len(found[0].rounds), 'round')}. "
               f"Substrate: {m.substrate('phases')}.")


def shares(m: Measured, page: Page) -> None:
    found = m.of("share")
    if not found:
        return
    page.title("The end of a round, by dirty share and memory")
    page.text("""The program goes over a share of its pages once, evenly spread, and waits; then
        the round ends. Write: cycles of that a page, with the faults that a tracker causes. What
        grows with the mapped memory and not with what was written is the first column's cost.""")

    def write_of(r: Line) -> float:
        return float(r["write"] / max(r["work"], 1))

    rows = []
    for s in ordered(found, "mib", "permille"):
        collect, write = s.collect(), s.of(write_of)
        helpers = s.of(value_of("helpers", MILLION))
        reported = s.of(value_of("reported")).median
        page.record("share", s, "end of a round", "million cycles", collect)
        page.record("share", s, "writing a page", "cycles", write)
        rows.append([f"{s.key.mib} MiB", f"{s.key.permille / 10:g} %", s.backend, *numbers(collect),
                     number(1e6 * collect.median / max(reported, 1)), number(helpers.median),
                     number(write.median), number(statistics.mean(map(write_of, s.bare))),
                     *pages(page, "share", s)])
        page.record("share", s, "its threads", "million cycles", helpers)
    page.table(["array", "dirty", "tracker", "end of a round, M cycles: min", "median", "max",
                "cycles a page", "its threads, M cycles", "write a page, cycles", "without",
                "reported", "missed", "extra"], rows, f"Substrate: {m.substrate('share')}.")
    page.figure(functools.partial(figures.shares, found=found),
                "End of a round by share of the pages written.", m.substrate("share"))
    if len({s.key.mib for s in found}) > 1:
        page.figure(functools.partial(figures.memory, found=found),
                    "End of a round by memory, at a fixed dirty share.", m.substrate("share"))


# part, the field that it is by, title, text, unit
SCALING = (
    ("interval", "milliseconds", "By interval of rounds",
     "The array of the first table at 100 MiB, with shorter rounds, too.", "ms"),
    ("vcpus", "cpus", "By number of vCPUs",
     "With two, the writer and the collector have a vCPU and a processor each, and nothing is "
     "taken off.", "vCPU"),
    ("guests", "guests", "With other guests",
     "Guests that share the processor; in each an array of 32 MiB is written and tracked in the "
     "same way, and has as much time between two rounds. That of one of them, with and without its "
     "tracker; the others go on.", "guest"),
    ("processes", "processes", "By number of tracked processes",
     "Each of 32 MiB, 10 % of it written in a round; cycles of the round's end are the sum.",
     "process"),
    ("control", "mib", "A program that reads only",
     "The array is read over and over; each page reported would be extra.", "MiB"))


def scaling(m: Measured, page: Page) -> None:
    for part, field, title, text, unit in SCALING:
        found = m.of(part)
        if not found:
            continue
        if part == "interval":
            # that one is measured already
            found += m.of("headline", mib=found[0].key.mib)
        found = ordered(found, field)
        page.title(title)
        page.text(text)
        rows = []
        for s in found:
            slow, collect = (s.slowdown() if part != "processes" else None), s.collect()
            if slow:
                page.record(part, s, "slow-down", "%", slow)
            page.record(part, s, "end of a round", "million cycles", collect)
            rows.append([count(getattr(s.key, field), unit), s.backend,
                         *(signed(slow) if slow else "---"), *numbers(collect),
                         *pages(page, part, s)[1:]])
        page.table(["", "tracker", "slow-down, %: min", "median", "max",
                    "end of a round, M cycles: min", "median", "max", "missed", "extra"], rows,
                   f"Substrate: {m.substrate(part)}.")
        if len({getattr(s.key, field) for s in found}) > 1:
            several = count(2, unit).split()[1]
            page.figure(functools.partial(figures.scaling, found=found, field=field, unit=several),
                        title + ".", m.substrate(part))


# for the CSV: metric, unit, field, scale
OF_PROGRAMS = (("rounds", "", "rounds", 1.0), ("reported", "pages", "reported", 1.0),
               ("ends of rounds", "million cycles", "collect", MILLION),
               ("exceptions", "", "exception", 1.0), ("rounds all dirty", "", "all_dirty", 1.0))


def programs(m: Measured, page: Page) -> None:
    found = m.programs()
    if not found:
        return
    substrate = m.substrate(found[0].first.key.part)
    page.title("Real programs")
    page.text("""redis-server under redis-benchmark, tkrzw's own benchmark, GCBench: time until the
        work is done, by tracker, the collector's in it, as it shares the processor; each run
        compared with those without a tracker before and behind it. Nothing is known here of what
        was missed; `ooh verify` compares contents.""")
    rows = []
    for p in found:
        page.record("program", p.first, "longer", "%", p.longer)
        page.record("program", p.first, "longer without the collector", "%", p.tracked)
        for metric, unit, field, scale in OF_PROGRAMS:
            page.record("program", p.first, metric, unit,
                        spread([s.rounds[0].get(field, 0) / scale for s in p.runs]))
        rows.append(row_of_program(p))
    page.table(["program", "tracker", "runs", "longer, %: min", "median", "max",
                "without the collector, %", "runs without differ by, %", "rounds", "pages a round",
                "end of a round, M cycles", "exceptions", "walks, M references, most",
                "rounds all dirty"], rows,
               "Means of the runs from the rounds on, but for the walks: a run that is much longer "
               "than its like has more of them, most likely as its memory was not of huge pages. "
               f"Substrate: {substrate}.")
    page.figure(functools.partial(figures.programs, found=found),
                "How much longer the work takes; bars from the least to the longest run.",
                substrate)


def row_of_program(p: Program) -> list[str]:
    return [p.name, p.backend, str(len(p.runs)), *signed(p.longer), f"{p.tracked.median:+.2f}",
            f"{p.noise:.2f}", number(p.mean("rounds")), number(p.per_round("reported"), 6),
            number(p.per_round("collect") / MILLION), number(p.mean("exception")),
            number(p.most("nested_walk") / MILLION), number(p.mean("all_dirty"))]


def table_of_costs(m: Measured, page: Page) -> None:
    if not m.run.table:
        return
    page.title("The table of costs")
    rows, why = [], ""
    for line in m.run.table:
        if line.startswith("#"):
            why += " " + line.lstrip("# ")
        elif line.split():
            name, value = line.split()[:2]
            rows.append([name, value, why.strip()])
            page.fact("costs", "", "", name, "cycles", int(value), m.lines[0]["substrate"])
        else:
            why = ""
    page.table(["event", "cycles", "source"], rows, "Beside one cycle for each instruction.")


def believe(m: Measured, page: Page) -> None:
    page.title("What stands behind the figures")
    if m.run.about:
        page.text(f"The run: {'; '.join(m.run.about)}.")
    missing = [["failed", t] for t in m.run.failed]
    missing += [["not on this machine", t] for t in m.run.missing]
    missing += [["left out", f"{s.key.part}, {s.key.bench}, {s.backend}: there are no rounds "
                 "without a tracker beside it"] for s in m.alone]
    if m.run.emulated:
        page.text(f"""The machine is an emulator with a clock: an instruction is a cycle, and an
            event costs what the table says. It has no caches, no memory latency, no overlap of
            instructions. A TLB it has, of 2048 entries, direct-mapped (two pages may drive each
            other out) and without tags, so VM exits and switches of address spaces cost more walks
            than on hardware. The guest takes its clock for 200 MHz, so timer interrupts and changes
            of processes are twelve times as frequent in a second as on the CPU that is meant;
            without a tracker, walks take {share_of_walks(m)} of the time of the smallest array. Two
            runs of one program differ only by where interrupts fall. So events are exact, ratios
            are as good as the table, and absolute times are nobody's.""")
        missing += [["not measured", t] for t in (
            "uffd-wp in asynchronous mode by itself: it is what pagemap-scan uses",
            "uffd-wp and mprotect where more than 100 MiB are written here and there: minutes a "
            "round",
            "mprotect on programs that do not know of it (redis-server, tkrzw, GCBench)")]
    else:
        page.text("Times are this machine's, with whatever else runs there; only ratios of one run "
                  "are to be compared.")
        missing.append(["not measured",
                        "events of the processor: there are no counters of them here"])
    page.table(["", "what is not here"], missing)


def share_of_walks(m: Measured) -> str:
    cost = m.run.costs().get("nested_walk", 0)
    bare = [d for d in m.lines if d["part"] == "headline" and d["backend"] == "none"]
    smallest = min((d["mib"] for d in bare), default=0)
    shares = [100 * d["nested_walk"] * cost / d["ticks"] for d in bare if d["mib"] == smallest]
    return f"{number(statistics.mean(shares))} %" if shares else "some"
