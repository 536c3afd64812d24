"""An input of the whole program on which an operator is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map

from pt2e_ci.judge.deciding.elements import Elements, OnVectors, UndecidedError
from pt2e_ci.program.trace import laid_out_like, tensors_in
from pt2e_ci.record.records import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.judge.deciding.counterexample import Shown, Trial
    from pt2e_ci.judge.deciding.decide import Decision
    from pt2e_ci.program.segments import Reading
    from pt2e_ci.program.trace import Trace, Value

_WRITTEN = 4096
"""So many values of an input are written down."""

# So many inputs are drawn, at least and at most, and no more than so many values are worked out for it.
_DRAWN = (24, 400)
_WORK = 2**23


class Witnesses:
    """Turns what an operator is wrong on into inputs of its program, and runs them.

    Args:
        reading: the Q/DQ program.
        trace: the reference program.
        inputs: the first input set.

    """

    def __init__(self, reading: Reading, trace: Trace, inputs: Sequence[Any]) -> None:
        self._reading, self._trace, self._inputs = reading, trace, inputs

    def find(self, decision: Decision) -> Witness | None:
        """Return an input on which an operator that was found wrong is wrong; None where none was found."""
        if decision.floats is not None:
            return self._of_float(decision)
        if decision.trial is None or decision.shown is None:
            return None
        segment, cuts = decision.trial.segment, decision.trial.cuts
        for inputs, seed in self._tries(decision.shown):
            values = self._trace.replay(tensors_in(inputs), keep=segment.values)
            levels = {node: values[some[0]].long() for node, some in cuts.items()}
            found = decision.trial.held(levels, values[segment.target])
            if found is not None:
                return self._witness(decision, inputs, seed, found, values)
        return None

    def _of_float(self, decision: Decision) -> Witness | None:
        assert decision.floats is not None  # noqa: S101 - the caller looked
        assert decision.tally is not None  # noqa: S101 - it is given with it
        quantize, given = decision.floats
        example = decision.tally.examples[0]
        tensors = tensors_in(self._inputs)
        place = self._trace.inputs.index(given)
        changed = torch.zeros_like(tensors[place]).contiguous()
        changed.view(-1)[quantize.place(example.element)] = quantize.value(example.given[0])
        tensors[place] = laid_out_like(changed, tensors[place])
        got = int(self._trace.replay(tensors, keep=(quantize.target,))[quantize.target].reshape(-1)[example.element])
        if got != example.got:
            return None
        value = quantize.value(example.given[0])
        return Witness(
            **_written(tensors, None),
            element=example.element,
            got=got,
            exact=example.due,
            program=[("input", f"{value!r}"), ("level", str(got))],
            due=[("steps", f"{float(value) / float(quantize.scale) + quantize.point!r}"), ("level", str(example.due))],
        )

    def _tries(self, shown: Shown) -> Iterator[tuple[Sequence[Any], int | None]]:
        """Yield the input that gives these levels, where they are the input's own; the first input; and drawn ones."""
        direct = self._direct(shown.levels)
        if direct is not None:
            yield direct, None
        yield self._inputs, None
        size = sum(torch.Size(one.shape).numel() for one in self._trace.info.values())
        for seed in range(max(_DRAWN[0], min(_DRAWN[1], _WORK // size))):
            yield draw(self._inputs, seed), seed

    def _direct(self, levels: Mapping[Node, torch.Tensor]) -> Sequence[Any] | None:
        given: dict[str, torch.Tensor] = {}
        for one in self._reading.levels:
            node = one.quantize.node
            if node not in levels:
                continue
            source = one.quantize.source
            if source.op != "placeholder" or one.quantize.grid.one is None:
                return None
            scale, point = one.quantize.grid.one
            given[source.name] = (levels[node].double() - point) * scale
        if len(given) != len(levels):
            return None
        names = [node.name for node in self._reading.items if node.op == "placeholder"]
        found = [*self._inputs]
        for index, name in enumerate(names):
            if name in given:
                if index >= len(found) or not isinstance(found[index], torch.Tensor):
                    return None  # it is a part of a nest
                found[index] = given[name].to(found[index].dtype).reshape(found[index].shape)
        return found

    def _witness(
        self,
        decision: Decision,
        inputs: Sequence[Any],
        seed: int | None,
        shown: Shown,
        values: Mapping[Value, torch.Tensor],
    ) -> Witness:
        trial = decision.trial
        assert trial is not None  # noqa: S101 - the caller looked
        real = trial.asked.real(shown.levels)
        scale, point = trial.asked.output
        steps = real.times(1 / scale).element(shown.element) + point
        exact = [("real number of levels", _fraction(steps)), ("level", str(shown.due))]
        return Witness(
            **_written(tensors_in(inputs), seed),
            element=shown.element,
            got=shown.got,
            exact=shown.due,
            program=_steps(decision, trial, values, shown.element),
            due=exact,
        )


def draw(inputs: Sequence[Any], seed: int) -> Any:
    """Return an input of the same shapes, floats drawn over the range that they have, and the rest as it is."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point() or not leaf.numel():
            return leaf
        low, high = float(leaf.min()), float(leaf.max())
        wide = torch.rand(leaf.shape, generator=generator, dtype=torch.float64) * (high - low) + low
        return laid_out_like((wide * (0.5 + seed % 4 / 2)).to(leaf.dtype), leaf)

    return tree_map(drawn, [*inputs])


def _written(tensors: Sequence[torch.Tensor], seed: int | None) -> dict[str, Any]:
    floats = [one.detach().double().reshape(-1) for one in tensors]
    if sum(one.numel() for one in floats) <= _WRITTEN:
        return {"inputs": [one.tolist() for one in floats], "seed": seed}
    if seed is not None:
        return {"seed": seed}
    places = [one.nonzero().flatten() for one in floats]
    if sum(one.numel() for one in places) > _WRITTEN:
        return {}
    pairs = [zip(at.tolist(), one[at].tolist(), strict=True) for one, at in zip(floats, places, strict=True)]
    return {"changed": [(index, at, value) for index, some in enumerate(pairs) for at, value in some]}


def _steps(
    decision: Decision, trial: Trial, values: Mapping[Value, torch.Tensor], element: int
) -> list[tuple[str, str]]:
    """Return what a program works out for one element: from its accumulator on, or from the levels that it reads."""
    requantization = decision.requantization
    free = [requantization.root] if requantization else [value for some in trial.cuts.values() for value in some]
    elements = Elements(trial.segment, values, free)
    log: list[tuple[str, torch.Tensor]] = []
    seen: list[tuple[str, str]] = []

    def noted(value: Value) -> Any:
        def at_places(at: torch.Tensor) -> torch.Tensor:
            found = values[value].reshape(-1)[at][:, None]
            seen.append(("accumulator" if requantization else "level", _text(found)))
            return found

        return at_places

    try:
        on_run = OnVectors({value: noted(value) for value in free}, elements, log=log)
        elements.fold(trial.segment.target, torch.tensor([element]), on_run)
    except UndecidedError:
        return []
    return seen + [(name, _text(found)) for name, found in log]


def _text(found: torch.Tensor) -> str:
    value = found.reshape(-1)[0].item()
    return repr(value)


def _fraction(value: Any) -> str:
    whole, rest = divmod(value, 1)
    return f"{whole} + {float(rest):.9f}" if rest else str(whole)
