"""The cells: every environment that the suite is run in, and which of them this one is.

Nothing here imports torch, so that a command or a noxfile can read the list at once.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from pt2e_ci.errors import InputError, unknown
from pt2e_ci.files import read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable

CELLS_FILE = Path(__file__).with_name("cells.toml")

FlowName = Literal["torch.ao", "torchao"]
FLOWS: tuple[FlowName, ...] = get_args(FlowName)

PLATFORMS = {"linux/amd64": "linux_x86_64", "linux/arm64": "linux_aarch64"}
"""The platforms that cells run on, as containers name them and as wheels and reports do."""

_REQUIRED = {"name", "torch", "pythons", "flow"}
_OPTIONAL = {"torchao", "requires", "base", "pull_request"}
_RELEASE = r"\d+\.\d+\.\d+(\.?[a-z]+\d+)*"
_PATTERNS = {"name": r"[A-Za-z0-9][A-Za-z0-9._-]*", "torch": _RELEASE, "torchao": _RELEASE}
_MEANING = dict.fromkeys(("torch", "torchao"), "a release, such as 2.4.1") | {
    "name": "a name of letters, digits and .-_",
}


def minor(version: str) -> str:
    """Shorten a version to its first two numbers: ``2.4.1+cpu`` gives ``2.4``."""
    return ".".join(str(number) for number in Version(version).release[:2])


@dataclass(frozen=True)
class Cell:
    """One environment of the matrix."""

    name: str
    torch: str
    pythons: tuple[str, ...]
    """The Pythons that it runs on, the preferred one first."""
    flow: FlowName
    torchao: str | None = None
    requires: tuple[str, ...] = ()
    base: str | None = None
    """The image to build on, where the Dockerfile's own has another Python."""
    pull_request: bool = False
    """Whether it runs on each pull request; all cells run on the main branch."""
    listed: bool = True

    @property
    def title(self) -> str:
        """What it is called, in a sentence."""
        return f"cell {self.name}"

    @property
    def python(self) -> str:
        """The Python that the cell runs on where it can be had."""
        return self.pythons[0]

    def on(self, python: str) -> Cell:
        """Return the cell as it is on one of its Pythons."""
        return replace(self, pythons=(python,))

    @property
    def session(self) -> str:
        """The nox session that runs the cell."""
        return f"test-{self.name}"

    @property
    def tox(self) -> str:
        """The tox environment that runs the cell: its name, of letters and digits alone.

        tox would read a dot as a version of Python, and what is between hyphens as a factor that other
        environments share.
        """
        return f"torch{re.sub('[^A-Za-z0-9]', '', self.name)}"

    def id(self, platform: str) -> str:
        """Name the cell on a platform such as ``linux_x86_64``: ``torch2.4-cp311-linux_x86_64``.

        A listed cell is named by minor releases, for the list pins one patch release of each. An unlisted
        one keeps its full versions, so that the two are never taken for each other.
        """
        shorten = minor if self.listed else str
        parts = [f"torch{shorten(self.torch)}"]
        if self.flow == "torchao" and self.torchao:
            parts.append(f"torchao{shorten(self.torchao)}")
        parts += [f"cp{self.python.replace('.', '')}", platform]
        return "-".join(parts)


@dataclass(frozen=True)
class CellList:
    """What cells.toml holds: the cells, and the torchao releases that pair with each torch."""

    cells: tuple[Cell, ...]
    pairs: dict[str, tuple[str, ...]]

    def select(self, names: Iterable[str] = ()) -> tuple[Cell, ...]:
        """Return the cells of these names, as ``2.4`` or ``test-2.4``, in the order of the list; all for no name.

        Raises:
            InputError: there is no such cell.

        """
        listed = [cell.name for cell in self.cells]
        wanted = [name.removeprefix("test-") for name in names]
        for name in wanted:
            if name not in listed:
                raise unknown("cell", name, listed)
        return tuple(cell for cell in self.cells if not wanted or cell.name in wanted)

    def find(self, torch: str, torchao: str | None, python: str, flow: FlowName) -> Cell:
        """Return the listed cell of these versions, or an unlisted one made of them."""
        wanted = (torch, torchao if flow == "torchao" else None, flow)
        for cell in self.cells:
            if (cell.torch, cell.torchao, cell.flow) == wanted and python in cell.pythons:
                return cell.on(python)
        return Cell(f"torch {torch}", torch, (python,), flow, torchao=wanted[1], listed=False)


def load_cells(path: Path = CELLS_FILE) -> CellList:
    """Read cells.toml.

    Raises:
        InputError: the file is missing, is not TOML, or an entry of it is not a cell; with its number.

    """
    document = read_toml(path)
    if stray := sorted(document.keys() - {"cell", "engine", "pairs"}):
        raise InputError(f"{path}: unknown table {stray[0]!r}: only [[cell]], [[engine]] and [pairs] belong here")
    entries = document.get("cell")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: holds no [[cell]]: add at least one")
    cells: list[Cell] = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}: [[cell]] {number}"
        cell = _cell(entry, where)
        for other in cells:
            if other.name == cell.name:
                raise InputError(f"{where}: a second cell named {cell.name!r}: give each its own name")
            if other.tox == cell.tox:
                raise InputError(f"{where}: {cell.name!r} and {other.name!r} would be one tox environment, {cell.tox}")
            if {cell.on(python).id("") for python in cell.pythons} & {other.on(one).id("") for one in other.pythons}:
                raise InputError(f"{where}: the same environment as cell {other.name!r}: their reports would collide")
        cells.append(cell)
    return CellList(tuple(cells), _pairs(document.get("pairs", {}), path))


def _cell(entry: object, where: str) -> Cell:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: a cell is a table, written as [[cell]]")
    if missing := sorted(_REQUIRED - entry.keys()):
        raise InputError(f"{where}: the cell has no {missing[0]!r}")
    if stray := sorted(entry.keys() - _REQUIRED - _OPTIONAL):
        raise InputError(f"{where}: unknown key {stray[0]!r} in a cell")
    _check_texts(entry, where)
    pythons, requires = _pythons(entry["pythons"], where), _requires(entry.get("requires", []), where)
    if entry["flow"] not in FLOWS:
        raise InputError(f"{where}: unknown flow {entry['flow']!r}: choose from {', '.join(FLOWS)}")
    if (entry["flow"] == "torchao") != ("torchao" in entry):
        raise InputError(f"{where}: 'torchao' names the release for flow \"torchao\", and for that flow only")
    return Cell(**{**entry, "pythons": pythons, "requires": requires})


def _check_texts(entry: dict[str, Any], where: str) -> None:
    for key, value in entry.items():
        if key == "pull_request":
            if not isinstance(value, bool):
                raise InputError(f"{where}: 'pull_request' is true or false")
        elif key not in ("requires", "pythons") and (not isinstance(value, str) or not value):
            raise InputError(f'{where}: {key!r} must be a string, as in {key} = "..."')
    for key, pattern in _PATTERNS.items():
        if not re.fullmatch(pattern, entry.get(key, "0.0.0" if key == "torchao" else "")):
            raise InputError(f"{where}: {key!r} is not {_MEANING[key]}: {entry[key]!r}")


def _pythons(given: Any, where: str) -> tuple[str, ...]:
    releases = isinstance(given, list) and all(isinstance(one, str) and re.fullmatch(r"\d+\.\d+", one) for one in given)
    if not given or not releases:
        raise InputError(f"{where}: 'pythons' must be a list of minor releases, as [\"3.11\"]")
    return tuple(given)


def _requires(given: Any, where: str) -> tuple[str, ...]:
    try:
        if not isinstance(given, list):
            raise InvalidRequirement
        return tuple(str(Requirement(requirement)) for requirement in given)
    except (InvalidRequirement, TypeError, AttributeError):
        raise InputError(f"{where}: 'requires' must be a list of requirements, as [\"numpy<2\"]") from None


def _pairs(table: object, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise InputError(f"{path}: [pairs] must be a table")
    for torch, releases in table.items():
        minors = [torch, *(releases if isinstance(releases, list) else [None])]
        if not all(isinstance(release, str) and re.fullmatch(r"\d+\.\d+", release) for release in minors):
            raise InputError(f'{path}: [pairs] {torch!r} must be a list of torchao\'s minor releases, as ["0.17"]')
    return {torch: tuple(releases) for torch, releases in table.items()}


def names_in(text: str, option: str) -> list[str]:
    """Return the names in an option's value, which commas part.

    Raises:
        InputError: there is none.

    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"{option} needs a name, or several, comma-separated")
    return names


def platforms(text: str) -> list[str]:
    """Return the platforms in the value of ``--platform``, which commas part.

    Raises:
        InputError: one of them is none that cells run on, or there is none.

    """
    names = list(dict.fromkeys(names_in(text, "--platform")))
    for name in names:
        if name not in PLATFORMS:
            raise unknown("platform", name, PLATFORMS)
    return names


def platform_tag() -> str:
    """Name the operating system and the architecture: ``linux_x86_64``."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def installed(distribution: str) -> str | None:
    """Return the public version of an installed distribution (``2.4.1``, not ``2.4.1+cpu``), or None."""
    try:
        return Version(metadata.version(distribution)).public
    except metadata.PackageNotFoundError:
        return None


def current_cell(flow: str | None = None, path: Path = CELLS_FILE) -> Cell:
    """Work out which cell this environment is, from what is installed and without importing it.

    `flow` overrides the choice of home: by default the flow is torchao's where a torchao with one is
    installed, and torch's own elsewhere.

    Raises:
        InputError: no torch is installed; or the torchao beside it has no PT2E flow or does not pair.

    """
    torch = installed("torch")
    if torch is None:
        raise InputError(
            "torch is not installed in this environment: install one, or run a nox session such as test-2.13"
        )
    torchao = installed("torchao")
    has_flow = torchao is not None and _ships("torchao", "quantization/pt2e/quantize_pt2e.py")
    if flow is not None and flow not in FLOWS:
        raise InputError(f"unknown flow {flow!r}: choose from {', '.join(FLOWS)}")
    if flow == "torchao" and torchao is None:
        raise InputError("flow torchao needs torchao, which is not installed: install it, or choose torch.ao")
    if flow == "torchao" and not has_flow:
        raise InputError(f"torchao {torchao} has no PT2E flow: install 0.11 or later, or choose flow torch.ao")
    chosen: FlowName = flow or ("torchao" if has_flow else "torch.ao")

    listed = load_cells(path)
    if chosen == "torchao" and torchao is not None:
        _check_pair(torch, torchao, listed)
    elif not _ships_flow():
        pairs = listed.pairs.get(minor(torch), ())
        release = f"torchao {', '.join(pairs)}" if pairs else "a torchao that goes with it"
        raise InputError(f"torch {torch} has no PT2E flow of its own: install {release}, for flow torchao")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return listed.find(torch, torchao, python, chosen)


def _check_pair(torch: str, torchao: str, listed: CellList) -> None:
    """Refuse a torchao that is known not to work with this torch; a torch newer than the list may try."""
    known_torch = {minor(cell.torch) for cell in listed.cells}
    pairs = listed.pairs.get(minor(torch), ())
    if minor(torch) not in known_torch or minor(torchao) in pairs:
        return
    remedy = f"install torchao {', '.join(pairs)}" if pairs else "uninstall torchao"
    raise InputError(
        f"torchao {torchao} does not pair with torch {torch}: {remedy}"
        + (", or choose flow torch.ao" if _ships_flow() else "")
    )


def _ships_flow() -> bool:
    """Tell whether torch itself holds the PT2E flow, which left it in 2.11."""
    return _ships("torch", "ao/quantization/quantize_pt2e.py")


def _ships(package: str, path: str) -> bool:
    """Tell whether an installed package has a file, without importing the package (torch takes seconds)."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None and (Path(spec.origin).parent / path).exists()


def cell_record(cell: Cell) -> dict[str, Any]:
    """Describe a cell for ``pt2e-ci cells --json``."""
    return {
        "name": cell.name,
        "session": cell.session,
        "id": cell.id(platform_tag()),
        "torch": cell.torch,
        "torchao": cell.torchao,
        "python": cell.python,
        "pythons": [*cell.pythons],
        "flow": cell.flow,
        "requires": [*cell.requires],
        "base": cell.base,
    }
