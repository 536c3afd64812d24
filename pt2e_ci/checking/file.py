"""A file of Python with a model: what it gives, as `check` takes it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pt2e_ci.errors import InputError, one_line

if TYPE_CHECKING:
    from types import ModuleType

NAMES = (
    *("model", "inputs", "quantizer", "representation", "criteria", "calibration"),
    *("dynamic_shapes", "qat", "train", "known", "engines"),
)
"""What a file may give, as `check` takes it."""


def read_file(target: str) -> dict[str, Any]:
    """Return what a file of Python gives of `NAMES`, and what the model is called.

    Args:
        target: ``FILE`` or ``FILE:NAME``, where NAME is what the file calls its model.

    Raises:
        InputError: there is no such file, it cannot be loaded, or it lacks the model or its inputs.

    """
    path, name = split(target)
    module = _loaded(path)
    found: dict[str, Any] = {}
    for wanted, called in ((one, name if one == "model" else one) for one in NAMES):
        if hasattr(module, called):
            found[wanted] = _value(wanted, getattr(module, called), path)
        elif wanted in ("model", "inputs"):
            raise InputError(f"{path} has no `{called}`: give it `model` and `inputs`, values or functions")
    label = path.stem if name == "model" else f"{path.stem}:{name}"
    return found | {"name": re.sub("^-+", "", label)[:100]}


def split(target: str) -> tuple[Path, str]:
    """Part ``FILE:NAME``."""
    path, colon, name = target.rpartition(":")
    if colon and name.isidentifier():
        return Path(path), name
    return Path(target), "model"


def _loaded(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path} is not a file")
    # Strict export looks for it under its name, and what lies beside it is imported as `python FILE` would.
    name = f"pt2e_ci_file_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} cannot be loaded: {one_line(error)}{_line(error, path)}") from error
    return module


def _value(name: str, given: Any, path: Path) -> Any:
    """Return a value, or what a function of that name makes; representation and training are functions themselves."""
    if name in ("representation", "train", "quantizer") or not isinstance(given, FunctionType):
        return given
    try:
        return given()
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}: {name}() raised {one_line(error)}{_line(error, path)}") from error


def _line(error: BaseException, path: Path) -> str:
    """Say in which line of a file something was raised."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path.resolve():
            place = f" ({path.name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place
