"""pytest's way in. It adds a fixture, and nothing else to a run that does not name the suite: every one loads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pt2e_ci.checking.result import Result

_SUITE = Path(__file__).parent


@pytest.fixture(scope="session")
def assert_integer() -> Callable[..., Result]:
    """Return `pt2e_ci.assert_integer`."""
    import pt2e_ci

    return pt2e_ci.assert_integer


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Bring in the suite's options and hooks if the suite is to be run."""
    if _names_suite(args, early_config.invocation_params.dir):
        from pt2e_ci.suite import session

        early_config.pluginmanager.register(session, "pt2e_ci_suite")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keep the suite out of a run that comes upon it by the way, as ``pytest .`` does in a checkout."""
    inside = collection_path == _SUITE or _SUITE in collection_path.parents
    return True if inside and not config.pluginmanager.hasplugin("pt2e_ci_suite") else None


def _names_suite(args: Sequence[str], base: Path) -> bool:
    for arg in args:
        name = arg.split("::")[0]
        if name in ("pt2e_ci", "pt2e_ci.suite") or name.startswith("pt2e_ci.suite."):
            return True
        path = (base / name).resolve()
        if name and path.exists() and (path == _SUITE or _SUITE in path.parents):
            return True
    return False
