"""The rows of quantizers: the built-in ones, and those of a TOML file that an entry point of a package points to."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import msgspec

from pt2e_ci.errors import InputError
from pt2e_ci.files import read_toml
from pt2e_ci.plugins import load

ROWS_FILE = Path(__file__).with_name("quantizers.toml")


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quantizer, and what it is known to annotate. What each field is stands in quantizers.toml."""

    name: str
    family: str
    make: str
    operators: list[str]
    needs: list[Literal["channels_last", "no_guards"]] = []
    missing: str | None = None


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a quantizer does otherwise on some releases; the patterns are a shell's.

    Attributes:
        quantizer: whose it is.
        torch: on which versions of torch.
        torchao: with which of torchao; ``none`` stands for the flow in torch itself.
        lacks, adds, broken: the operators that it does not annotate, does, and fails on.
        absent: whether it cannot be made there.
        why: the reason.
        link: where upstream speaks of it.

    """

    quantizer: str
    torch: str = "*"
    torchao: str = "*"
    lacks: list[str] = []
    adds: list[str] = []
    broken: list[str] = []
    absent: bool = False
    why: str
    link: str = ""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file holds."""

    quantizer: list[Row]
    known: list[Known] = []


def read_table(path: Path) -> Table:
    """Read a file of rows.

    Raises:
        InputError: it is none.

    """
    try:
        return msgspec.convert(read_toml(path), Table)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from None


def load_table() -> Table:
    """Return the built-in rows, and those of the files that entry points name.

    Raises:
        InputError: a file is none of rows, or two rows have one name.

    """
    found = [read_table(ROWS_FILE)]
    for point in entry_points(group="pt2e_ci.quantizers"):
        if point.module.split(".")[0] == "pt2e_ci":
            continue
        given = load("quantizers", point.name)
        if isinstance(given, Path | str):  # else it is a quantizer, which `check` and the suite take by its name
            found.append(read_table(Path(given)))
    rows = [row for table in found for row in table.quantizer]
    names = [row.name for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two quantizers are called {twice!r}: give each its own name")
    return Table(quantizer=rows, known=[one for table in found for one in table.known])
