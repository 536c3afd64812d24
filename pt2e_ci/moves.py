"""What one writes for PT2E on each torch, and what to edit between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from packaging.version import Version

from pt2e_ci.cells import load_cells, minor
from pt2e_ci.errors import InputError
from pt2e_ci.toml_files import read_toml

MOVES_FILE = Path(__file__).with_name("moves.toml")


@dataclass(frozen=True)
class Use:
    """How something is written, from one minor release of torch on."""

    topic: str
    since: str
    code: str
    needs: str
    until: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Edit:
    """What is written otherwise on the newer of two releases."""

    before: Use
    after: Use

    def text(self, new: str) -> str:
        """Say what to edit, on the way to the release `new`."""
        until = self.before.until
        gone = f" (gone after {until})" if until and Version(until) < Version(new) else " (still there)"
        note = f"\n      {self.after.note}" if self.after.note else ""
        return f"  {self.after.topic}:\n    - {self.before.code}{gone}\n    + {self.after.code}{note}"


@cache
def load_uses(path: Path = MOVES_FILE) -> tuple[Use, ...]:
    """Read moves.toml."""
    return tuple(Use(**entry) for entry in read_toml(path)[1]["use"])


def edits(old: str, new: str) -> list[Edit]:
    """Return what to edit from one minor release of torch to another, by topic.

    Raises:
        InputError: one of them is older or newer than what is known, or they are not in order.

    """
    newest = max((minor(cell.torch) for cell in load_cells().cells), key=Version)
    for torch in (old, new):
        if Version(torch) > Version(newest):
            raise InputError(f"nothing is known of torch {torch}: the newest is {newest}")
    if Version(old) > Version(new):
        raise InputError(f"torch {old} is newer than {new}: give the older one first")
    topics = dict.fromkeys(use.topic for use in load_uses())
    pairs = [(_at(topic, old), _at(topic, new)) for topic in topics]
    return [Edit(before, after) for before, after in pairs if before != after]


def _at(topic: str, torch: str) -> Use:
    known = [use for use in load_uses() if use.topic == topic and Version(use.since) <= Version(torch)]
    if not known:
        raise InputError(f"nothing is known of torch {torch}: the oldest is {load_uses()[0].since}")
    return known[-1]
