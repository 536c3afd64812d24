"""The report of an engine: what came of each vector, what it was run on, and what of it is known."""

from __future__ import annotations

import platform
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pt2e_ci.cells.capabilities import cpu_flags, cpu_model
from pt2e_ci.cells.cell import platform_tag
from pt2e_ci.errors import InputError
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.files import read_toml
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import Record
from pt2e_ci.record.report import decode_files, encode_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION = 1
NEAREST = (Rounding.HALF_EVEN, Rounding.HALF_EVEN_OF_LEVEL, Rounding.HALF_UP, Rounding.HALF_AWAY)
"""The schemes that part at ties alone."""

KNOWN_FILE = Path(__file__).with_name("engines.toml")


class Compared(Record, frozen=True, kw_only=True):
    """What was given for one vector.

    Attributes:
        vector: its name.
        operator: its operator.
        outcome: how it ended.
        why: what is wrong, in a line; None where nothing is.
        kernel: what ran, as the engine names it.
        values: how many levels were compared.
        wrong: how many are not what the declared rounding gives.
        max: how far the furthest of them is off, in LSB.
        displacement: how far beyond its boundary the furthest is, in LSB.
        ties: how many results lie halfway between two levels.
        ties_by: how many of those each scheme explains.
        schemes: the schemes that explain every level.

    """

    vector: str
    operator: str
    outcome: Outcome
    why: str | None = None
    kernel: str | None = None
    values: int = 0
    wrong: int = 0
    max: int = 0
    displacement: float = 0.0
    ties: int = 0
    ties_by: dict[str, int] = msgspec.field(default_factory=dict)
    schemes: list[str] = msgspec.field(default_factory=list)


class Known(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of some engines on some vectors; the patterns are a shell's.

    Attributes:
        engine: whose it is.
        vector: on which.
        outcome: how it ends.
        why: the reason.
        without: the CPU's instruction set that it takes not to be so, as Linux names it; any CPU where none is named.
        platform: where it is so; anywhere where it is not named.

    """

    engine: str
    vector: str
    outcome: Outcome
    why: str
    without: str | None = None
    platform: str = "*"


class EngineReport(Record, frozen=True, kw_only=True):
    """What one engine made of vectors.

    Attributes:
        engine: its name.
        package: its package, with the version.
        platform: the system and the architecture.
        cpu: the CPU's model.
        flags: those of its instruction sets that something is known without.
        python: the version of Python.
        vectors: the digest of the vectors.
        results: what came of each.
        version: of this report.

    """

    engine: str
    package: str
    platform: str
    cpu: str
    flags: list[str]
    python: str
    vectors: str
    results: list[Compared]
    version: int = VERSION

    def unexpected(self, known: Sequence[Known]) -> list[str]:
        """Say in a line each what is not known, and what is known and not so any more."""
        lines = []
        for one in self.results:
            entry = entry_for(self, one.vector, known)
            expected = {entry.outcome if entry else Outcome.PASS, *(() if entry else (Outcome.SKIP,))}
            if one.outcome not in expected:
                due = f", and {entry.outcome} is known: {entry.why}" if entry else ""
                lines.append(f"{self.engine}: {one.vector} is {one.outcome}: {one.why or 'right'}{due}")
        return lines


def entry_for(report: EngineReport, vector: str, known: Sequence[Known]) -> Known | None:
    """Return what is known of a vector on an engine; the last entry counts."""
    found = [
        one
        for one in known
        if fnmatchcase(report.engine, one.engine)
        and fnmatchcase(vector, one.vector)
        and fnmatchcase(report.platform, one.platform)
        and (one.without is None or one.without not in report.flags)
    ]
    return found[-1] if found else None


def load_known(path: Path = KNOWN_FILE) -> list[Known]:
    """Read what is known.

    Raises:
        InputError: an entry is none.

    """
    try:
        return msgspec.convert(read_toml(path).get("known", []), list[Known])
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: [[known]]: {error}") from None


def report_of(engine: str, package: str, digest: str, results: list[Compared], known: Sequence[Known]) -> EngineReport:
    """Return the report of a run on this machine."""
    asked = {one.without for one in known if one.without}
    return EngineReport(
        engine=engine,
        package=package,
        platform=platform_tag(),
        cpu=cpu_model(),
        flags=sorted(asked & cpu_flags()),
        python=platform.python_version(),
        vectors=digest,
        results=results,
    )


def save(report: EngineReport, folder: Path) -> Path:
    """Write a report into a folder, under the engine's name and the platform's; return its path."""
    return encode_file(folder / f"{report.engine}-{report.platform}.json", report)


def read_reports(paths: Iterable[Path]) -> list[EngineReport]:
    """Read the reports in files and folders, by name.

    Raises:
        InputError: there is none, or one of them is something else.

    """
    return decode_files(paths, EngineReport, "report of an engine", VERSION, "nox -s engines")
