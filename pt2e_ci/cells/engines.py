"""The engines that vectors are run on, and what their environments hold: cells.toml's ``[[engine]]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pt2e_ci.cells.cell import CELLS_FILE, load_cells
from pt2e_ci.errors import InputError, unknown
from pt2e_ci.files import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_KEYS: dict[str, type] = {
    **dict.fromkeys(("name", "cell"), str),
    **dict.fromkeys(("requires", "platforms", "quantizers"), list),
    **dict.fromkeys(("runs", "variables"), dict),
}
_MEANING: dict[type, str] = {str: "a string", list: "a list of strings", dict: "a table of strings"}


@dataclass(frozen=True)
class Engine:
    """An environment, and what is run there.

    Attributes:
        name: of the environment.
        requires: what it holds beside this package.
        runs: where each engine is, by its name, as ``module:name``.
        cell: the cell whose lock it holds, too; None where it needs no torch.
        variables: of the process's environment, as ``NAME=VALUE``, by the name of the engine that needs one.
        platforms: where it can be had, as ``linux_x86_64``; anywhere where none is named.
        quantizers: what `nox -s quantizers` runs there, by the names of quantizers.toml.

    """

    name: str
    requires: tuple[str, ...]
    runs: dict[str, str]
    cell: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    quantizers: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it is called, in a sentence."""
        return f"engine {self.name}"

    @property
    def pythons(self) -> tuple[str, ...]:
        """The Pythons that it runs on: those of its cell, or the one that the package is built on."""
        if self.cell is None:
            return ("3.11",)
        (cell,) = load_cells().select([self.cell])
        return cell.pythons

    @property
    def python(self) -> str:
        """The Python that it should run on."""
        return self.pythons[0]


def load_engines(path: Path = CELLS_FILE) -> tuple[Engine, ...]:
    """Read the engines of cells.toml.

    Raises:
        InputError: an entry is none, or two have one name.

    """
    entries = read_toml(path).get("engine", [])
    if not isinstance(entries, list):
        raise InputError(f"{path}: an engine is a table, written as [[engine]]")
    found = tuple(_engine(entry, f"{path}: [[engine]] {number}") for number, entry in enumerate(entries, 1))
    for given in ([one.name for one in found], [name for one in found for name in one.runs]):
        if twice := next((name for name in given if given.count(name) > 1), None):
            raise InputError(f"{path}: two engines are called {twice!r}: give each its own name")
    return found


def place_of_engine(name: str) -> str:
    """Return where an engine is, as ``module:name``, by its name; of one's own as it is given.

    Raises:
        InputError: there is no such engine.

    """
    listed = {key: value for one in load_engines() for key, value in one.runs.items()}
    if name not in listed and ":" not in name:
        raise unknown("engine", name, listed)
    return listed.get(name, name)


def variables_of_engine(name: str) -> dict[str, str]:
    """Return what the environment of an engine's process holds, by the engine's name."""
    found = next((one.variables[name] for one in load_engines() if name in one.variables), "")
    variable, _, value = found.partition("=")
    return {variable: value} if variable else {}


def _engine(entry: Any, where: str) -> Engine:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: an engine is a table, written as [[engine]]")
    if missing := [key for key in ("name", "requires", "runs") if key not in entry]:
        raise InputError(f"{where}: the engine has no {missing[0]!r}")
    for key, value in entry.items():
        if key not in _KEYS:
            raise InputError(f"{where}: unknown key {key!r} in an engine")
        texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if not isinstance(value, _KEYS[key]) or not all(isinstance(one, str) for one in texts):
            raise InputError(f"{where}: {key!r} must be {_MEANING[_KEYS[key]]}")
    for name, value in entry.get("variables", {}).items():
        if name not in entry["runs"] or not value.partition("=")[0] or "=" not in value:
            raise InputError(
                f"{where}: 'variables' must give engines of its 'runs' a NAME=VALUE, and {name!r} has none"
            )
    fields: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in entry.items()}
    return Engine(**fields)


def select_engines(names: Iterable[str], engines: Iterable[Engine]) -> tuple[Engine, ...]:
    """Return the engines of these environments' names; those that need no torch for no name; all for ``all``.

    Raises:
        InputError: there is no such engine.

    """
    engines, wanted = tuple(engines), [*names]
    known = [one.name for one in engines]
    for name in wanted:
        if name not in (*known, "all"):
            raise unknown("engine", name, [*known, "all"])
    if not wanted:
        return tuple(one for one in engines if one.cell is None)
    return tuple(one for one in engines if one.name in wanted or "all" in wanted)
