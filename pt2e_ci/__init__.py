"""Is a quantized model integer, and are the integers right? On every torch, for every input.

What is public is imported when it is asked for: `import pt2e_ci` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pt2e_ci.checking.api import assert_integer, check, compare
    from pt2e_ci.checking.result import Result
    from pt2e_ci.errors import InputError
    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.record.criteria import Criteria

__all__ = ["Criteria", "InputError", "Result", "Rounding", "assert_integer", "check", "compare"]
__version__ = "0.1.0"

_HOMES = {
    "assert_integer": "pt2e_ci.checking.api",
    "check": "pt2e_ci.checking.api",
    "compare": "pt2e_ci.checking.api",
    "Result": "pt2e_ci.checking.result",
    "InputError": "pt2e_ci.errors",
    "Rounding": "pt2e_ci.exact.schemes",
    "Criteria": "pt2e_ci.record.criteria",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
