"""Operators that put tensors together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.exact.boundaries import common_unit
from pt2e_ci.exact.reals import Real, Term
from pt2e_ci.operators.integers import Integers, operand
from pt2e_ci.operators.pointwise import in_units
from pt2e_ci.operators.row import Kind, Row, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pt2e_ci.operators.integers import Builder

aten = torch.ops.aten


def cat(tensors: Sequence[Real], dim: int = 0) -> Real:
    """Tensors one after another."""
    total: Real | None = None
    for chosen, real in enumerate(tensors):
        terms = []
        for term in real.terms:
            parts = [
                part.terms[0].integers * 0 if index != chosen else term.integers for index, part in enumerate(tensors)
            ]
            terms.append(Term(term.unit, torch.cat(parts, dim)))
        placed = Real(tuple(terms), real.exact)
        total = placed if total is None else total.plus(placed)
    assert total is not None  # noqa: S101 - aten refuses an empty list
    return total


def cat_integers(builder: Builder, tensors: Sequence[Any], dim: int = 0) -> Integers:
    """Bring all operands to a common unit, and put them one after the other."""
    return _joined(builder, aten.cat.default, tensors, dim)


def stack(tensors: Sequence[Real], dim: int = 0) -> Real:
    """Tensors one after another along a new dimension."""
    return cat([one.map(lambda integers: integers.unsqueeze(dim)) for one in tensors], dim)


def stack_integers(builder: Builder, tensors: Sequence[Any], dim: int = 0) -> Integers:
    """Bring all operands to a common unit, and put them one after the other along a new dimension."""
    return _joined(builder, aten.stack.default, tensors, dim)


def _joined(builder: Builder, target: Any, tensors: Sequence[Any], dim: int) -> Integers:
    values = [operand(builder, value) for value in tensors]
    unit = common_unit([value.units[0] for value in values])
    parts = [in_units(builder, value, unit) for value in values]
    node = builder.call(target, [part.node for part in parts], dim)
    return Integers(node, (unit,), max(part.largest for part in parts))


ROWS = (
    Row(("cat", "concat", "concatenate"), Kind.JOIN, exact=cat, integer=cat_integers, rule=Rule.MOVEMENT),
    Row(("stack",), Kind.JOIN, exact=stack, integer=stack_integers, rule=Rule.MOVEMENT),
)
