"""All controls by name: the wrong representations, and the right ones that are written otherwise."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pt2e_ci.controls import cheats, faults, spellings
from pt2e_ci.controls.variant import Variant, name_of_class, sentence

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from torch.fx import GraphModule


def _apply(variant: type[Variant], qdq: GraphModule) -> GraphModule:
    return variant()(qdq)


def _variants(*modules: ModuleType) -> dict[str, Callable[[GraphModule], GraphModule]]:
    """Return what modules define, but for what only carries others."""
    bases = (faults.Fault, spellings.Spelling)
    found = [one for module in modules for one in vars(module).values() if _is_of(one, module) and one not in bases]
    return {name_of_class(one): partial(_apply, one) for one in found}


def _is_of(value: object, module: ModuleType) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, Variant)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    )


FAULTS: dict[str, Callable[[GraphModule], GraphModule]] = {
    **_variants(faults, cheats),
    "nothing_rewritten": faults.nothing_rewritten,
}
"""The wrong representations by name."""

SPELLINGS: dict[str, Callable[[GraphModule], GraphModule]] = _variants(spellings)
"""The right representations by name."""


def describe(name: str) -> str:
    """Say in one sentence what is wrong, or written otherwise."""
    function = (FAULTS | SPELLINGS)[name]
    return sentence(function.args[0] if isinstance(function, partial) else function)


def codes(name: str) -> tuple[str, ...]:
    """Return the reasons that name a fault."""
    function = FAULTS[name]
    found: tuple[str, ...] = function.args[0].codes if isinstance(function, partial) else ("PQ012",)
    return found
