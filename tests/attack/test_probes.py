# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every probe, first where nothing is in its way, then in a box of each kind; and what docs/security.md says of that."""
import subprocess

import pytest

import items
import probes
import sandboxes
import table
from conftest import BUILD, TOP, USBOX, WORK, cannot, has_subids

SANDBOXES = sandboxes.all_sandboxes(sandboxes.Tools(BUILD, USBOX))
DOCUMENT = TOP / "docs" / "security.md"
outcomes = {}


def outcome(name):
    if name not in outcomes:
        if name.startswith("root") and not has_subids():
            cannot("map subordinate ids: no newuidmap or no range in /etc/subuid")
        outcomes[name] = sandboxes.attack(SANDBOXES[name], WORK)
    return outcomes[name]


def provable(probe):
    return not probe.needs or probes.NEEDS[probe.needs][0]()


def test_there_are_enough_of_them():
    assert len(probes.PROBES) >= 200
    names = subprocess.run([BUILD / "tests" / "attack" / "probe", "--list"], capture_output=True, text=True, check=True).stdout.split()
    assert len(set(names)) == len(names)
    calls = subprocess.run([BUILD / "tests" / "attack" / "probe", "--list-calls"], capture_output=True, text=True, check=True).stdout.split()
    assert set(names) - set(calls) <= set(probes.PROBES) <= set(names)


def test_each_thing_is_attacked():
    """Every probe is for something, and every thing has a probe or a test that exists; the document says the same."""
    for thing, entries in items.ITEMS.items():
        for entry in entries:
            path, _, name = entry.partition("::")
            if ".py" not in entry:
                assert items.of(entry), (thing, entry)
            else:
                assert f"def {name}" in (TOP / "tests" / path).read_text(encoding="utf-8"), (thing, entry)
    assert {name for _, names, _ in items.rows() for name in names} == set(probes.PROBES)
    assert table.things() in DOCUMENT.read_text(encoding="utf-8")


def test_every_probe_comes_through_where_nothing_is_in_its_way():
    """Else it would be no wonder that it does not in a box."""
    nothing = outcome("nothing")
    broken = {p.name: nothing.said[p.name] for p in probes.PROBES.values() if p.name not in nothing.reached and provable(p)}
    assert broken == {}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slice] if name == "root" else []) for name in sandboxes.OURS])
def test_box(name):
    """What comes through is what the options of this box open by their meaning, and all of that."""
    result = outcome(name)
    meant = {p.name for p in probes.PROBES.values() if name in p.open and (provable(p) or p.name in result.reached)}
    unmeant = {n: said for n, said in result.reached.items() if n not in meant}
    assert unmeant == {}
    assert meant - set(result.reached) == set(), {n: result.said[n] for n in meant - set(result.reached)}


@pytest.mark.parametrize("name", sandboxes.OURS)
def test_document_says_what_is(name):
    columns, rows = table.get(DOCUMENT)
    assert rows == list(probes.PROBES)
    known = {p.name for p in probes.PROBES.values() if provable(p)}
    assert columns[SANDBOXES[name].title] & known == set(outcome(name).reached) & known


class UsboxWithoutOverlay(sandboxes.Usbox):
    """What is there is read-only, and nothing can be hidden in it by name."""

    def hide(self, world):
        return []


def test_files_outside_without_an_overlay():
    """Of the three drivers of the root the one that has no column."""
    names = [p.name for p in probes.GROUPS["Files outside"]]
    result = sandboxes.attack(UsboxWithoutOverlay(SANDBOXES["default"].tools, "no overlay", "--overlay=none"), WORK, names)
    assert set(result.reached) <= {name for name in names if "kernel" in probes.PROBES[name].open}, result.reached


@pytest.mark.parametrize("name, options", {"root": ["--user=root"], "nested": ["--nested"]}.items())
def test_exec_in_boxes_of_other_kinds(name, options):
    """What comes through is what does in such a box."""
    if name == "root" and not has_subids():
        cannot("map subordinate ids: no newuidmap or no range in /etc/subuid")
    result = sandboxes.attack(sandboxes.Exec(SANDBOXES[name].tools, f"exec, {name}", *options), WORK)
    # The box's command is another process there, whose program is the box's root's.
    assert set(result.reached) - {"proc_exe_chmod"} == {p.name for p in probes.PROBES.values() if name in p.open and (provable(p) or p.name in result.reached)}


# What the filter alone keeps a box from: calls that reach nothing but the kernel's own code, and what is the box's (to whose directory nobody else can come).
FILTERED = {p.name for p in probes.GROUPS["Calls"]} - {"int80_unshare_user", "x32_unshare_user", "call_clone3", "call_open_handle"} | {
    "socket_netfilter", "socket_audit", "socket_vsock", "keys_add", "core_limit", "setuid_file", "setgid_file", "setuid_created"}


@pytest.mark.parametrize("name, box", {"default": sandboxes.Usbox, "root": sandboxes.Usbox, "kernel": sandboxes.UsboxByKernel, "pod": sandboxes.Pod}.items())
def test_without_the_filter(name, box):
    """Everything else is closed twice."""
    if name == "root" and not has_subids():
        cannot("map subordinate ids: no newuidmap or no range in /etc/subuid")
    sandbox = SANDBOXES[name]
    result = sandboxes.attack(box(sandbox.tools, f"{name}, no filter", *sandbox.options, "--seccomp=off"), WORK)
    unmeant = {n: said for n, said in result.reached.items() if n not in FILTERED and name not in probes.PROBES[n].open}
    assert unmeant == {}
    # The filter is off.
    assert "call_personality" in result.reached


def test_document_names_what_opens():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in sandboxes.OURS:
        assert f"`{SANDBOXES[name].what}`" in text, SANDBOXES[name].what
