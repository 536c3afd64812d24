"""Writing and reading a report: a run line, a line for each case, an end line with the counts.

A report is whole or it is an error: one that is cut short, empty, or has a case twice is never a pass.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pt2e_ci.cells.cell import platform_tag
from pt2e_ci.errors import InputError, one_line, printable
from pt2e_ci.files import read_text, write_whole
from pt2e_ci.record import schema1
from pt2e_ci.record.records import SCHEMA, Case, End, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pt2e_ci.cells.cell import Cell

# A case's line has some 10 kB. A line far longer than that is none, whoever wrote it.
_LONGEST_LINE = 4_000_000
_DEEPEST = 20
_Decoded = TypeVar("_Decoded")
_ESCAPE = re.compile(r"\\[bfnrtu]")


@dataclass(frozen=True)
class Report:
    """A report as read: its run line, its case lines and its end line."""

    run: Run
    cases: tuple[Case, ...]
    end: End

    @property
    def is_complete(self) -> bool:
        """Whether every selected case has a line; a run that was stopped gives fewer."""
        return len(self.cases) == self.end.selected

    @property
    def is_partial(self) -> bool:
        """Whether the run was told to leave cases out, by their names or by `-k`."""
        return bool(self.end.deselected)


def end_record(cases: Iterable[Case], selected: int, seconds: float, deselected: int = 0) -> End:
    """Return the end line for the case lines before it.

    `selected` is how many cases should be there, and `deselected` how many the run was told to leave out.
    """
    counts = Counter(case.outcome for case in cases)
    return End(counts=dict(sorted(counts.items())), selected=selected, deselected=deselected, seconds=round(seconds, 3))


def dump(report: Report) -> str:
    """Return a report as JSON Lines, each line checked against its record."""
    lines = []
    for record in (report.run, *report.cases, report.end):
        line = msgspec.json.encode(record)
        try:
            msgspec.json.decode(line, type=type(record))
        except msgspec.ValidationError as error:
            raise ValueError(f"a record does not fit the schema: {error}") from None
        lines.append(line.decode())
    return "\n".join(lines) + "\n"


def place_of(given: str, cell: Cell) -> Path:
    """Return the file that a report goes to: the given one, or in a given folder that of a cell's name."""
    path = Path(given)
    return path / f"{cell.id(platform_tag())}.jsonl" if given.endswith("/") or path.is_dir() else path


def check_writable(path: Path) -> None:
    """Make the report's folder, and make sure that a file can be written in it.

    Raises:
        InputError: it cannot, or `path` is a folder.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        if path.is_fifo():
            raise OSError("it is a pipe: use --report -, and redirect standard output")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except PermissionError:
        raise InputError(
            f"the report cannot be written to {path}: Permission denied for user {os.getuid()} (in a container, give"
            " the folder's owner by --user)"
        ) from None
    except OSError as error:
        raise InputError(f"the report cannot be written to {path}: {error.strerror or error}") from None


def write_report(path: Path, report: Report) -> None:
    """Write a report under its name once it is whole on disk, in place of what was there.

    Raises:
        InputError: the disk would not take it; nothing is left under the name but what was there.

    """
    text = dump(report)
    try:
        write_whole(path, text.encode(), mode=0o644)
    except OSError as error:
        raise InputError(f"the report could not be written to {path}: {error.strerror or error}") from None


def keep_report(path: Path, report: Report) -> Path:
    """Write a report under its name; one of a run that was stopped does not get that, but the name and ``.partial``.

    Returns where it is.

    Raises:
        InputError: as `write_report`.

    """
    place = path if report.is_complete else path.with_name(f"{path.name}.partial")
    write_report(place, report)
    return place


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        InputError: it cannot be read, is no report, or is not whole; with the line.

    """
    text = read_text(path)
    if not text:
        raise InputError(f"{path}: an empty file is not a report: run the suite again")
    if not text.endswith("\n"):
        raise InputError(f"{path}: cut off in line {text.count(chr(10)) + 1}: run the suite again")
    lines = [_parsed(line, f"{path}:{number}") for number, line in enumerate(text.removesuffix("\n").split("\n"), 1)]
    records = _records(lines, path)
    run, *cases = records
    if not isinstance(run, Run):
        raise InputError(f"{path}:1: a report begins with a run line, not with a {_kind(run)} line")
    if not cases or not isinstance(cases[-1], End):
        raise InputError(f"{path}: cut off after line {len(records)}, before its end line: run the suite again")
    end = cases.pop()
    assert isinstance(end, End)  # noqa: S101 - seen above
    return Report(run, _checked(cases, end, path), end)


def decode_file(path: Path, kind: type[_Decoded], called: str, version: int) -> _Decoded:
    """Read a file that holds one record as JSON.

    Raises:
        InputError: it is none, or of another version.

    """
    try:
        found: Any = msgspec.json.decode(read_text(path), type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"{path}: no {called}: {one_line(str(error))}") from None
    if found.version != version:
        raise InputError(f"{path}: is of version {found.version}, and this pt2e-ci reads {version}")
    return found


def decode_files(paths: Iterable[Path], kind: type[_Decoded], called: str, version: int, how: str) -> list[_Decoded]:
    """Read the files, and those of folders, that hold one record each, by name; `how` says what would make one.

    Raises:
        InputError: there is none, or one of them is something else.

    """
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"no {called} there: run `{how}`")
    return [decode_file(file, kind, called, version) for file in files]


def encode_file(path: Path, record: Any) -> Path:
    """Write a record as JSON, whole or not at all; return its path."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n", 0o644)
    return path


def _checked(records: Sequence[Run | Case | End], end: End, path: Path) -> tuple[Case, ...]:
    """Return the case lines if they are all there, each once."""
    cases: list[Case] = []
    names: set[str] = set()
    for number, case in enumerate(records, 2):
        if not isinstance(case, Case):
            raise InputError(f"{path}:{number}: a {_kind(case)} line, where a case line should be")
        cases.append(case)
        if case.name in names:
            raise InputError(f"{path}:{number}: the case {case.name!r} is here twice")
        names.add(case.name)
    if end.counts != Counter(case.outcome for case in cases):
        raise InputError(f"{path}: the end line counts other cases than there are: lines are missing or added")
    if len(cases) > end.selected:
        raise InputError(f"{path}: {len(cases)} cases, where {end.selected} were selected")
    if not cases:
        raise InputError(f"{path}: a report without a case says nothing: run the suite again")
    return tuple(cases)


def read_whole_report(path: Path) -> Report:
    """Read a report that must have a line for every selected case.

    Raises:
        InputError: as `read_report`, or the run was stopped before its end.

    """
    report = read_report(path)
    if not report.is_complete:
        raise InputError(
            f"{path}: incomplete: {len(report.cases)} of {report.end.selected} cases, for the run was stopped"
        )
    return report


def _records(lines: Sequence[Any], path: Path) -> list[Run | Case | End]:
    """Return lines as records, those of schema 1 translated."""
    first = lines[0] if isinstance(lines[0], dict) else {}
    is_run = first.get("record") == "run"
    if is_run and (type(first.get("schema")) is not int or first["schema"] not in (1, SCHEMA)):
        raise InputError(
            f"{path}:1: schema {first.get('schema')!r:.40}; this pt2e-ci reads schemas 1 and {SCHEMA}: use the one that"
            " wrote it"
        )
    old = is_run and first["schema"] == 1
    found: list[Run | Case | End] = []
    for number, line in enumerate(lines, 1):
        record = line
        if old and isinstance(line, dict):
            run = found[0] if found and isinstance(found[0], Run) else None
            record = schema1.translate(line, run)
            if line.get("record") == "end":
                before = [one.get("outcome") for one in lines[1 : number - 1] if isinstance(one, dict)]
                record = schema1.translate_counts(line, before, [one.outcome for one in found if isinstance(one, Case)])
        try:
            found.append(msgspec.convert(record, Run | Case | End))
        except msgspec.ValidationError as error:
            raise InputError(f"{path}:{number}: not a record of a report: {str(error)[:200]}") from None
    return found


def _kind(record: Run | Case | End) -> str:
    return type(record).__name__.lower()


def _parsed(line: str, where: str) -> Any:
    """Return a line of JSON whose texts can be shown."""
    if len(line) > _LONGEST_LINE:
        raise InputError(f"{where}: a line of {len(line) / 1e6:.0f} MB is none of a report")
    try:
        record = json.loads(
            line,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_small,
            object_pairs_hook=_unique_keys,
        )
        if _is_deep(record, _DEEPEST):
            raise ValueError(f"nested more than {_DEEPEST} deep")
        plain = json.dumps(record, ensure_ascii=False)
        plain.encode()  # half of a surrogate pair is no text
        # JSON escapes the control characters of ASCII, and no others.
        if not plain.isprintable() or _ESCAPE.search(plain):
            record = _printable(record)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a line of JSON: {error}") from None
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """Read a number; one that is too large for a float is none."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _small(text: str) -> int:
    """Read a whole number; one beyond a float's whole numbers counts nothing that there is."""
    if len(text) > 17:
        raise ValueError(f"{text[:20]} is too large")
    return int(text)


def _printable(value: Any) -> Any:
    """Return a record whose texts are `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _is_deep(value: object, left: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_is_deep(item, left - 1) for item in items)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key occurs twice")
    return record
