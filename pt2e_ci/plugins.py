"""The doors for what others bring: an entry point's name, or ``package.module:name``.

What is built in comes through the same doors. A representation is a callable from program to program, a quantizer one
without arguments, cases are an iterable, criteria a `Criteria`; an engine has a protocol.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from pt2e_ci.errors import InputError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

Group = Literal["representations", "quantizers", "cases", "criteria", "engines"]


def names(group: Group, but: Iterable[str] = ()) -> list[str]:
    """Return the names of a group's entry points, but those that are named."""
    found = dict.fromkeys(point.name for point in entry_points(group=f"pt2e_ci.{group}"))
    return [name for name in found if name not in but]


def load(group: Group, name: str) -> Any:
    """Return what a name stands for. The working directory is searched first, as ``python -m`` does.

    Raises:
        InputError: there is no such thing, several packages have one of that name, or its module cannot be imported.

    """
    kind = "criteria" if group == "criteria" else group.removesuffix("s")
    points = sorted({point.value for point in entry_points(group=f"pt2e_ci.{group}", name=name)})
    if len(points) > 1:
        raise InputError(f"{name!r} is the name of {' and of '.join(points)}: write package.module:name")
    found = points[0] if points else name
    if not re.fullmatch(r"[\w.]+:[\w.]+", found):
        raise InputError(f"no {kind} is called {name!r}: write package.module:name, or the name of an entry point")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return resolve_name(found)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise InputError(f"the {kind} {found} cannot be imported: {one_line(error)}") from None
