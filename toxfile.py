"""tox's environments: one for each cell, so that tox, nox and GitHub Actions follow the one list.

tox loads this file by its name. ``tox -e torch24`` runs the nox session of cell 2.4. On GitHub Actions
tox-gh-actions reads the map that is made here, from the variable TORCH to the environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tox.config.loader.memory import MemoryLoader
from tox.config.loader.section import Section
from tox.config.sets import ConfigSet
from tox.config.types import Command, EnvList
from tox.plugin import impl
from tox.report import HandledError

sys.path.insert(0, str(Path(__file__).parent))

from pt2e_ci.cells import load_cells
from pt2e_ci.errors import InputError

if TYPE_CHECKING:
    from tox.config.sets import EnvConfigSet
    from tox.session.state import State

    from pt2e_ci.cells import Cell

VARIABLE = "TORCH"


class _Section(ConfigSet):
    def register_config(self) -> None:
        """Nothing is read of it but what tox-gh-actions asks for."""


def _cells() -> tuple[Cell, ...]:
    try:
        return load_cells().cells
    except InputError as error:
        raise HandledError(str(error)) from None


@impl(tryfirst=True)
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Add an environment for each cell, and the line that maps its name to it, before tox-gh-actions reads them."""
    cells = _cells()
    core_conf.loaders.insert(0, MemoryLoader(env_list=EnvList([cell.tox for cell in cells])))
    section = state.conf.get_section_config(Section(None, "gh-actions:env"), base=[], of_type=_Section, for_env=None)
    section.loaders.insert(0, MemoryLoader(**{VARIABLE: "\n".join(f"{cell.name}: {cell.tox}" for cell in cells)}))
    # An empty list of environments would look like success.
    name = os.environ.get(VARIABLE)
    asked = not state.conf.options.env.is_default_list if hasattr(state.conf.options, "env") else False
    if os.environ.get("GITHUB_ACTIONS") == "true" and not asked and name not in [cell.name for cell in cells]:
        known = ", ".join(cell.name for cell in cells)
        raise HandledError(f"{VARIABLE}={name or ''} names no cell, so there is nothing to run: choose from {known}")


@impl
def tox_extend_envs() -> list[str]:
    """Name the environments once more: tox-gh-actions takes them off the list, also for a run that names one."""
    return [cell.tox for cell in _cells()]


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    """Have a cell's environment run its nox session; another would run nothing, and look like success."""
    cells = {cell.tox: cell for cell in _cells()}
    if env_conf.name.startswith("."):  # tox's own
        return
    if env_conf.name not in cells:
        raise HandledError(f"{env_conf.name} is the environment of no cell: choose from {', '.join(cells)}")
    cell = cells[env_conf.name]
    command = Command(["nox", "-s", cell.session, "--", *(state.conf.pos_args(None) or ())])
    description = f"run the suite on torch {cell.torch}, as nox -s {cell.session} does"
    env_conf.loaders.insert(0, MemoryLoader(commands=[command], description=description))
