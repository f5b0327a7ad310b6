#!/usr/bin/env python3
"""Prints a table of what `llvm-cov export` counted, file by file, and fails below a bar.

    coverage_report.py EXPORT.json PERCENT [--missing]

A branch is one way that a condition goes: each condition has two. What is generic is compiled
several times; a branch counts as taken if it is in one of them. The conditions of a `debug_assert!`
are left out: that one never fails is what it says. `--missing` lists the branches and the lines
that were never reached.
"""

import json
import os
import re
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
# Means of testing: the simulator and the scripted backend.
NOT_CORE = re.compile(r"src/(sim|backend/sim|backend/script)/|/tests\.rs$")
TEST = re.compile(r"( *)#\[cfg\((all\()?test\b")


def test_lines(text):
    """Returns the numbers of the lines of items that are compiled for tests alone."""
    numbers = set()
    lines = text.splitlines()
    for start, line in enumerate(lines):
        if found := TEST.match(line):
            last = re.compile(rf"{found[1]}\S.*[;}},]$|{found[1]}}}$")
            end = next(at for at in range(start + 1, len(lines)) if last.match(lines[at]))
            numbers.update(range(start + 1, end + 2))
    return numbers


def taken_branches(branches):
    """Returns how often each branch was taken: by its place and the way it goes."""
    taken = {}
    for line, column, _, end_column, yes, no, *_ in branches:
        for way, count in (("true", yes), ("false", no)):
            place = (line, column, end_column, way)
            taken[place] = taken.get(place, 0) + count
    return taken


def reached_lines(segments):
    """Returns how often each line was reached, as LLVM's LineCoverageStats has it."""
    by_line = {}
    for segment in segments:
        by_line.setdefault(segment[0], []).append(segment)
    reached, wrapped = {}, None
    for number in range(min(by_line, default=1), max(by_line, default=0) + 1):
        here = by_line.get(number, [])
        starts = [count for _, _, count, counted, entry, gap in here if counted and entry and not gap]
        skipped = here and not here[0][3] and here[0][4]
        if not skipped and (starts or (wrapped and wrapped[3])):
            reached[number] = max([*starts, wrapped[2] if wrapped and wrapped[3] else 0])
        if here:
            wrapped = here[-1]
    return reached


def asserted_lines(text):
    """Returns the numbers of the lines with assertions about the code itself."""
    lines = text.splitlines()
    return {at + 1 for at, line in enumerate(lines) if line.lstrip().startswith("debug_assert")}


def core_files(export):
    for file in export["data"][0]["files"]:
        path = os.path.relpath(file["filename"], ROOT)
        if not path.startswith("src/") or NOT_CORE.search(path):
            continue
        with open(file["filename"], encoding="utf-8") as source:
            text = source.read()
        tests = test_lines(text)
        left_out = tests | asserted_lines(text)
        taken = taken_branches(file["branches"])
        branches = {place: n for place, n in taken.items() if place[0] not in left_out}
        reached = reached_lines(file["segments"])
        lines = {line: n for line, n in reached.items() if line not in tests}
        yield path, text.splitlines(), branches, lines


def percent(some, all_of_them):
    return 100 * some / all_of_them if all_of_them else 100.0


def row(name, branches, lines):
    print(
        f"{name:<34}{branches[0]:>6} of {branches[1]:>4}{percent(*branches):>8.2f} %"
        f"{lines[0]:>8} of {lines[1]:>4}{percent(*lines):>8.2f} %"
    )


def main(path, bar, *options):
    with open(path, encoding="utf-8") as file:
        export = json.load(file)
    totals, missing = [[0, 0], [0, 0]], []
    print(f"{'file':<34}{'branches taken':>14}{'':>10}{'lines reached':>16}")
    for name, text, *counts in sorted(core_files(export)):
        some = [[sum(map(bool, of.values())), len(of)] for of in counts]
        row(name, *some)
        for total, part in zip(totals, some):
            total[:] = [total[0] + part[0], total[1] + part[1]]
        for line, start, end, way in sorted(place for place, n in counts[0].items() if not n):
            condition = text[line - 1][start - 1 : end - 1]
            missing.append(f"{name}:{line}:{start}: never {way}: {condition}")
        missing += [f"{name}:{line}: {text[line - 1].strip()}" for line, n in counts[1].items() if not n]
    row("all", *totals)
    if "--missing" in options:
        print("\n".join(missing))
    if not totals[0][1] or percent(*totals[0]) < float(bar):
        sys.exit(f"fewer than {bar} % of the branches are taken")


if __name__ == "__main__":
    main(*sys.argv[1:])
