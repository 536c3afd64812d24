"""The house: which room may import which, what is loaded before torch, and what comes through the doors."""

from __future__ import annotations

import ast
import subprocess
import sys
import venv
from importlib.metadata import entry_points

import pytest
from conftest import ROOT

from pt2e_ci import plugins
from pt2e_ci.cells.capabilities import ENGINES, OTHER_ENGINES
from pt2e_ci.errors import InputError
from pt2e_ci.measuring import DELEGATE

PACKAGE = ROOT / "pt2e_ci"
# The rooms of a floor never import one another, and all may import the two floors at the bottom.
FLOORS = [
    {"errors"},
    {"files", "plugins", "stops"},
    {"cells", "exact"},
    {"record", "operators"},
    {"program", "vectors"},
    {"flow", "judge", "engines"},
    {"catalogue", "measuring"},
    {"pipeline"},
    {"views"},
    {"checking", "matrix", "controls"},
    {"suite"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Narrower than its floor.
ONLY = {
    "operators": {"exact"},
    "record": {"cells", "exact"},
    "program": {"operators", "exact"},
    "flow": {"cells", "program", "operators", "exact"},
    "judge": {"record", "program", "operators", "exact"},
    "vectors": {"record", "exact"},
    "engines": {"record", "program", "vectors", "operators", "exact"},
    "views": {"record", "cells"},
}


def imports(path):
    """Yield the rooms that a file imports, wherever in it; what only a type checker sees does not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "pt2e_ci":
            modules = [f"pt2e_ci.{alias.name}" for alias in node.names]
        for module in modules:
            if module.startswith("pt2e_ci."):
                yield module.split(".")[1]


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.stem[0] != "_"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_what_is_below_them(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in set(imports(path)) - {room, "__version__"}:
        if path == PACKAGE / "controls" / "integer.py":
            continue  # where the exact representation was: it only leads there
        assert FLOOR[other] < FLOOR[room], f"{room} imports {other}"
        assert FLOOR[other] <= 1 or other in ONLY.get(room, {other}), f"{room} imports {other}"


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == set(FLOOR)


NO_TORCH = """
import sys
sys.modules["torch"] = None
import pt2e_ci.cli, pt2e_ci.views.pages, pt2e_ci.views.explain, pt2e_ci.views.diff, pt2e_ci.views.history
import pt2e_ci.catalogue.cases, pt2e_ci.record.expectations, pt2e_ci.record.schema1, pt2e_ci.exact.boundaries
import pt2e_ci.matrix.jobs, pt2e_ci.matrix.github, pt2e_ci.cells.environments, pt2e_ci.checking.elsewhere
import pt2e_ci.vectors.catalogue, pt2e_ci.vectors.folder, pt2e_ci.vectors.comparison, pt2e_ci.engines.running
import pt2e_ci.views.engines, pt2e_ci.cells.engines
"""


def test_views_cells_and_records_need_no_torch():
    done = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


BARE = """
import sys
sys.path.insert(0, {root!r})
from pt2e_ci.cells import capabilities, cell, engines, environments, locks, pythons, sources
from pt2e_ci.catalogue.cases import select_cases
print(100 * len(engines.load_engines()), len(cell.load_cells().cells), len(select_cases([])))
"""


def test_what_nox_loads_needs_what_nox_brings(tmp_path):
    """The standard library and packaging: this is an environment of nox and uv alone, as far as imports go."""
    venv.create(tmp_path / "venv")
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    import packaging

    (site / "packaging").symlink_to(packaging.__path__[0])
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-I", "-c", BARE.format(root=str(ROOT))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(int(number) > 15 for number in done.stdout.split())


@pytest.mark.parametrize("group", ["representations", "quantizers", "cases", "criteria", "engines"])
def test_what_is_built_in_comes_through_the_doors(group):
    points = [point for point in entry_points(group=f"pt2e_ci.{group}") if point.value.startswith("pt2e_ci.")]
    assert points
    for point in points:
        assert plugins.load(group, point.name) is point.load()


def test_engines_are_those_that_a_machine_is_asked_for():
    names = {point.name for point in entry_points(group="pt2e_ci.engines") if point.value.startswith("pt2e_ci.")}
    assert names | {DELEGATE} == {*ENGINES, *OTHER_ENGINES}


def test_somebody_elses_engine_is_named(tmp_path, monkeypatch):
    package = tmp_path / "theirs-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[pt2e_ci.engines]\ntheirs = theirs:ENGINE\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert plugins.names("engines", but=(*ENGINES, *OTHER_ENGINES)) == ["theirs"]


def test_old_path_of_the_exact_representation_still_loads():
    old = plugins.load("representations", "pt2e_ci.controls.integer:integer_representation")
    assert old is plugins.load("representations", "exact")


@pytest.mark.parametrize(
    ("group", "name", "says"),
    [
        ("criteria", "nothing", "no criteria is called 'nothing': write package.module:name"),
        ("engines", "no_such_module:X", "the engine no_such_module:X cannot be imported: ModuleNotFoundError"),
    ],
)
def test_bad_names_are_one_line(group, name, says):
    with pytest.raises(InputError) as raised:
        plugins.load(group, name)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_packages_that_use_one_name(tmp_path, monkeypatch):
    for number in (1, 2):
        package = tmp_path / f"theirs{number}-1.dist-info"
        package.mkdir()
        (package / "METADATA").write_text(f"Name: theirs{number}\nVersion: 1\n")
        (package / "entry_points.txt").write_text(f"[pt2e_ci.engines]\nfast = theirs{number}:ENGINE\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="'fast' is the name of theirs1:ENGINE and of theirs2:ENGINE: write package"):
        plugins.load("engines", "fast")
