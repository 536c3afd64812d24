"""The exact representation, with steps of it done otherwise: rightly, and then it must pass, or wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pt2e_ci.flow.exact import IntegerRepresentation
from pt2e_ci.operators.rows import ROWS

if TYPE_CHECKING:
    from pt2e_ci.operators.integers import Integers
    from pt2e_ci.operators.row import Row


class Variant(IntegerRepresentation):
    """A representation whose methods take the place of the exact one's steps.

    A method named as an operator takes the place of that operator's form.
    """

    def operate(self, row: Row, arguments: dict[str, Any]) -> Integers:
        """Compute an operator by the method for it, if there is one."""
        other = getattr(self, row.name, None)
        named = {"input" if name == "self" else name: value for name, value in arguments.items()}
        result: Integers = other(**named) if other else super().operate(row, arguments)
        return result

    def form(self, name: str, *args: Any, **kwargs: Any) -> Integers:
        """Compute an operator by the form of its row."""
        form = next(row.integer for row in ROWS if row.name == name and row.integer)
        result: Integers = form(self, *args, **kwargs)
        return result


def name_of_class(variant: type) -> str:
    """Return what the command calls a variant: ``bias_dropped`` for ``BiasDropped``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in variant.__name__).lstrip("_")


def sentence(variant: Any) -> str:
    """Return what a variant's docstring says of it."""
    return str(variant.__doc__).strip()
