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
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pt2e_ci.errors import InputError
from pt2e_ci.files import read_text, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jsonschema_rs import Draft202012Validator

SCHEMA = 1

# A case's line has some 10 kB. What is far beyond it is none, whoever wrote it.
_LONGEST_LINE = 4_000_000
_DEEPEST = 20
_ESCAPE = re.compile(r"\\[bfnrtu]")


@dataclass(frozen=True)
class Report:
    """A report as read: its run line, its case lines and its end line."""

    run: dict[str, Any]
    cases: tuple[dict[str, Any], ...]
    end: dict[str, Any]

    @property
    def is_complete(self) -> bool:
        """Whether every selected case has a line; a run that was stopped gives fewer."""
        return len(self.cases) == self.end["selected"]

    @property
    def is_partial(self) -> bool:
        """Whether the run was told to leave cases out, by their names or by `-k`."""
        return bool(self.end.get("deselected"))


def end_record(cases: Iterable[dict[str, Any]], selected: int, seconds: float, deselected: int = 0) -> dict[str, Any]:
    """Return the end line for the case lines before it.

    `selected` is how many cases should be there, and `deselected` how many the run was told to leave out.
    """
    counts = Counter(case["outcome"] for case in cases)
    return {
        "record": "end",
        "counts": dict(sorted(counts.items())),
        "selected": selected,
        "deselected": deselected,
        "seconds": round(seconds, 3),
    }


def dump(report: Report) -> str:
    """Return a report as JSON Lines, each line checked against the schema."""
    lines = []
    for record in (report.run, *report.cases, report.end):
        if complaint := _schema_complaint(record):
            raise ValueError(f"a record does not fit the schema: {complaint}")
        lines.append(json.dumps(record, allow_nan=False))
    return "\n".join(lines) + "\n"


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
        raise InputError(f"{path}: an empty file is no report: run the suite again")
    if not text.endswith("\n"):
        raise InputError(f"{path}: cut off in line {text.count(chr(10)) + 1}: run the suite again")
    records = [_record(line, f"{path}:{number}") for number, line in enumerate(text.removesuffix("\n").split("\n"), 1)]
    run, *cases = records
    if run["record"] != "run":
        raise InputError(f"{path}:1: a report begins with a run line, not with a {run['record']} line")
    if not cases or cases[-1]["record"] != "end":
        raise InputError(f"{path}: cut off after line {len(records)}, before its end line: run the suite again")
    *cases, end = cases
    names: set[str] = set()
    for number, case in enumerate(cases, 2):
        if case["record"] != "case":
            raise InputError(f"{path}:{number}: a {case['record']} line, where a case line should be")
        if case["name"] in names:
            raise InputError(f"{path}:{number}: the case {case['name']!r} is here twice")
        names.add(case["name"])
    if end["counts"] != dict(Counter(case["outcome"] for case in cases)):
        raise InputError(f"{path}: the end line counts other cases than there are: lines are missing or added")
    if len(cases) > end["selected"]:
        raise InputError(f"{path}: {len(cases)} cases, where {end['selected']} were selected")
    if not cases:
        raise InputError(f"{path}: a report without a case says nothing: run the suite again")
    return Report(run, tuple(cases), end)


def read_whole_report(path: Path) -> Report:
    """Read a report that must have a line for every selected case.

    Raises:
        InputError: as `read_report`, or the run was stopped before its end.

    """
    report = read_report(path)
    if not report.is_complete:
        raise InputError(
            f"{path}: incomplete: {len(report.cases)} of {report.end['selected']} cases, for the run was stopped"
        )
    return report


def _record(line: str, where: str) -> dict[str, Any]:
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
    if isinstance(record, dict) and record.get("record") == "run" and record.get("schema") != SCHEMA:
        raise InputError(
            f"{where}: schema {record.get('schema')!r:.40}; this pt2e-ci reads schema {SCHEMA}: use the one that wrote"
            " it"
        )
    if complaint := _schema_complaint(record):
        raise InputError(f"{where}: not a record of a report: {complaint}")
    checked: dict[str, Any] = record
    return checked


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
    """Return a record whose texts move no cursor and begin no line, whoever shows them.

    That is what `str.isprintable` leaves out: control characters, and those that turn the direction of writing.
    """
    if isinstance(value, str):
        spaced = re.sub(r"\s", " ", value)
        return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in spaced)
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


@cache
def _validator(kind: str) -> Draft202012Validator:
    from jsonschema_rs import Draft202012Validator

    schema = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    # One kind of line at a time: the complaint then speaks of the field, and not of three kinds of line.
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})


def _schema_complaint(record: object) -> str | None:
    if not isinstance(record, dict) or record.get("record") not in ("run", "case", "end"):
        return "it should be an object whose 'record' is run, case or end"
    error = next(iter(_validator(record["record"]).iter_errors(record)), None)
    if error is None:
        return None
    field = ".".join(str(part) for part in error.instance_path)[:100]
    message = error.message if len(error.message) <= 160 else error.message[:159] + "\N{HORIZONTAL ELLIPSIS}"
    return f"{field}: {message}" if field else message
