# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of docs/security.md: written from outcomes, and read again."""
import re

import items
import probes

BEGIN, END = "<!-- begin: tests/attack/run --update writes this -->", "<!-- end -->"
BEGIN_THINGS, END_THINGS = "<!-- begin: things; tests/attack/run --update writes this -->", "<!-- end: things -->"
CLOSED, CAME_THROUGH, BY_OPTION = "·", "**through**", "by option"
PROVEN = {"plain": "through", "own": "as root of its own", "stand-in": "at a stand-in"}


def cell(name, probe, outcome):
    if name == "nothing":
        return PROVEN[probe.proven] if probe.name in outcome.reached else "not here"
    if probe.name not in outcome.reached:
        return CLOSED
    return BY_OPTION if name in probe.open else CAME_THROUGH


def line(*cells):
    return "| " + " | ".join(cells) + " |"


def markdown(sandboxes, outcomes):
    """What each of the sandboxes let through, by probe; sums first."""
    names = list(outcomes)
    text = [line("", *(sandboxes[n].title for n in names)), line("---", *["---"] * len(names)),
            line(f"of {len(probes.PROBES)} probes came through", *(str(len(outcomes[n].reached)) for n in names))]
    for group, members in probes.GROUPS.items():
        text += ["", f"**{group}**", "", line("probe", "what it reaches for", *(sandboxes[n].title for n in names)), line("---", "---", *["---"] * len(names))]
        text += [line(f"`{p.name}`", p.what, *(cell(n, p, outcomes[n]) for n in names)) for p in members]
    return "\n".join(text) + "\n"


def things():
    """What is attacked → by which probes and tests."""
    text = [line("what is attacked", "probes", "tests of their own"), line("---", "---", "---")]
    text += [line(thing, " ".join(f"`{name}`" for name in names), " ".join(f"`{test}`" for test in tests)) for thing, names, tests in items.rows()]
    return "\n".join(text) + "\n"


def put(path, text, begin=BEGIN, end=END):
    """Replaces what stands between the two marks of the file."""
    old = path.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise RuntimeError(f"{path} has no place for the table")
    head, tail = old.split(begin)[0], old.split(end)[1]
    path.write_text(f"{head}{begin}\n\n{text}\n{end}{tail}", encoding="utf-8")


def get(path):
    """Column's title → names of the probes that came through, and those of all rows."""
    text = path.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    found, rows, titles = {}, [], []
    for row in re.findall(r"^\| (.*) \|$", text, re.M):
        cells = row.split(" | ")
        if cells[0] == "probe":
            titles = cells[2:]
        elif match := re.fullmatch(r"`(\w+)`", cells[0]):
            rows.append(match[1])
            for title, value in zip(titles, cells[2:], strict=True):
                found.setdefault(title, set()).update([match[1]] if value not in (CLOSED, "not here") else [])
    return found, rows
