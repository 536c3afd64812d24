"""The records of a report: a run, its cases, and their quantized operators. Schema 2.

Run, case and end are a line of JSON each; the others stand inside a case. `python -m pt2e_ci.record.records` prints the
JSON Schema.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from pt2e_ci.cells.capabilities import Build, Cpu
from pt2e_ci.cells.cell import FlowName
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.record.outcomes import Outcome, Stage

SCHEMA = 2

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Size = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(max_length=100)]
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class Record(Struct, frozen=True):
    """A record: it does not change."""


class Reason(Record, frozen=True, kw_only=True):
    """Why a case ended as it did.

    Attributes:
        code: one of `reasons`; a report of schema 1 has none.
        text: what is wrong, in a line.
        operators: the nodes of the operators that it is about; none where it is about the whole program.

    """

    code: str | None
    text: str
    operators: list[str] = []


class Known(Record, frozen=True, kw_only=True):
    """What a defect is known for."""

    reason: str
    link: str


class Distance(Record, frozen=True, kw_only=True):
    """How far levels are from the exact ones, in LSB: the largest, the mean, and the share that differs.

    Attributes:
        max, mean, differing: of all values.
        boundary: of the values that differ, how far the exact one is from the rounding boundary, at most, in LSB; None
            where none differs.
        off: how many differ though the boundary is further away than the arithmetic's own error.

    """

    max: Size
    mean: float
    differing: Share
    boundary: Size | None = None
    off: Count = 0


class Comparison(Record, frozen=True, kw_only=True):
    """How far two programs' outputs are apart: in LSB, or in the outputs' own units where they are on no grid.

    Attributes:
        unit: of `max` and `mean`.
        max: the largest difference.
        mean: the mean difference, with its sign.
        differing: the share of values that differ at all.
        compared: how many values were compared.
        not_finite: how many differences are not finite.
        off_grid: how many outputs lie between levels.
        histogram: how often each difference occurs, in whole LSB.
        absolute: of the outputs that are on no grid, where others are.

    """

    unit: Literal["lsb", "absolute"]
    max: Size
    mean: float
    differing: Share
    compared: Count
    not_finite: Count
    off_grid: Count = 0
    histogram: dict[Annotated[str, Meta(pattern=r"^-?[0-9]+$")], Count] = {}
    absolute: Comparison | None = None


class Engine(Comparison, frozen=True, kw_only=True):
    """How far an engine's kernels are from the exact result, and what it did not take, by operator, with its words."""

    skipped: dict[str, str] = {}


class Numerics(Record, frozen=True, kw_only=True):
    """The two programs held against each other and against the exact result; what was not measured is not there."""

    reference_vs_qdq: Comparison | None = None
    reference_vs_exact: Comparison | None = None
    qdq_vs_exact: Comparison | None = None


class Near(Record, frozen=True, kw_only=True):
    """The rewrite that comes nearest to an operator that none took.

    Attributes:
        operator, node: the operator.
        rewrite: the rewrite's name.
        matched: how many of the pattern's calls are found, walking from its result towards its inputs.
        of: how many calls the pattern has.
        pattern: what the pattern has where the two part, such as ``aten.convolution.default``; None if they do not
            part by a call, but by an argument or by what else uses a value.
        graph: what the program has there; None for an input or a constant.
        at: the node of the program where they part.

    """

    operator: str
    node: str
    rewrite: str
    matched: Count
    of: Count
    pattern: str | None
    graph: str | None
    at: str


class Structure(Record, frozen=True, kw_only=True):
    """What the reference program computes with.

    Attributes:
        integer: how many of the operators that the quantizer marked compute on integers.
        in_float: how many do not.
        coverage: the share that does; None where none was marked.
        rewrites: how often each rewrite matched; None where that cannot be told.
        float_operators: those that compute in float, out of sight, or are missing, counted by name.
        qdq: how many quantize and dequantize operators are left.
        outputs: dtype and shape of each output.
        annotated_by: whose word it is that an operator is quantized: the quantizer's, or its Q/DQ neighbours'.
        nearest: for each operator that stayed in float, the rewrite that comes nearest.

    """

    integer: Count
    in_float: Count = msgspec.field(name="float")
    coverage: Share | None
    rewrites: dict[str, Count] | None
    float_operators: dict[str, Count]
    qdq: Count
    outputs: list[str]
    annotated_by: Literal["quantizer", "neighbours"] | None = None
    nearest: list[Near] = []


class Exact(Record, frozen=True, kw_only=True):
    """Of the exact result: the rounding scheme, and what it could not be had for.

    Attributes:
        rounding: how a real number becomes a level.
        unavailable: why there is none.
        approximated: operators without an exact form.
        reference_starts_at: the first operator whose levels in the reference program differ from the exact ones.
        qdq_starts_at: the same in the Q/DQ program.

    """

    rounding: Rounding
    unavailable: str | None
    approximated: list[str]
    reference_starts_at: str | None
    qdq_starts_at: str | None


class Cost(Record, frozen=True, kw_only=True):
    """What quantization itself costs, against the float model.

    Attributes:
        sqnr: the power of the signal to that of the error, in dB; None where there is no error, or no signal.
        max: the largest error, in LSB of the grid; None where there is none.

    """

    sqnr: float | None
    max: Size | None


class Verdict(StrEnum):
    """What a quantized operator computes with in the reference program."""

    INTEGER = "integer"
    FLOAT = "float"
    UNSEEN = "out of sight"
    MISSING = "missing"


class Kind(StrEnum):
    """How well what is said of an operator is known, from best to worst."""

    PROVED = "proved"
    """It is right for every input, but for what is nearer to a rounding boundary than the criteria's displacement."""
    PARTLY = "partly"
    """A part of it is."""
    TESTED = "tested"
    """It was compared on samples."""
    REFUTED = "refuted"
    """It is not right: values are known that show it."""

    @property
    def rank(self) -> int:
        """How far it is from a proof."""
        return [*Kind].index(self)


class Witness(Record, frozen=True, kw_only=True):
    """An input of the whole program on which an operator is wrong.

    Attributes:
        inputs: its float tensors, flat; None where they are too large to be written down.
        seed: what they were drawn with, if they were; see `pt2e_ci.judge.deciding.witness.draw`.
        changed: tensor, place and value of what is not 0 in them, where they are too large and were not drawn.
        element: the place in the operator's flattened result.
        got, exact: the level that the program gives there, and the exact one.
        program: what the program works out for that element, from its accumulator, or its operands, on.
        due: what exact arithmetic does.

    """

    inputs: list[list[float]] | None = None
    seed: int | None = None
    changed: list[tuple[int, int, float]] = []
    element: Count
    got: int
    exact: int
    program: list[tuple[str, str]] = []
    due: list[tuple[str, str]] = []


class Rescale(Record, frozen=True, kw_only=True):
    """What is to become of an accumulator, in rationals as ``3/4``, and a digest of what does.

    Attributes:
        units, offsets: what one accumulator stands for and what is added, for each kind of element.
        least, most: the accumulators that each can reach.
        scale, zero_point: of the result.
        first, last: the least and the largest level that it can have.
        rounding: the scheme that is due.
        off: kind, level and accumulator of each boundary that is elsewhere than it should be.
        digest: of all boundaries, as they are.

    """

    units: list[str]
    offsets: list[str]
    least: list[int]
    most: list[int]
    scale: str
    zero_point: int
    first: int
    last: int
    rounding: Rounding
    off: list[tuple[int, int, int]] = []
    digest: Digest


class Pairs(Record, frozen=True, kw_only=True):
    """What is to become of pairs of levels, or of levels, and a digest of what does.

    Attributes:
        operator: ``add``, ``sub``, ``mul``, or ``same`` for one operand whose real number stays.
        scales, zero_points: of the operands, as rationals.
        lows, highs: their least and largest levels.
        bounds: the real numbers that an activation holds the result to; None where it does not.
        scale, zero_point, low, high: of the result.
        rounding: the scheme that is due.
        off: the levels of the operands, and that of the result, where it is another than it should be.
        digest: of all levels, as they are, operands counting up, the last one fastest.

    """

    operator: Literal["add", "sub", "mul", "same"]
    scales: list[str]
    zero_points: list[int]
    lows: list[int]
    highs: list[int]
    bounds: tuple[str | None, str | None] = (None, None)
    scale: str
    zero_point: int
    low: int
    high: int
    rounding: Rounding
    off: list[list[int]] = []
    digest: Digest


class Evidence(Record, frozen=True, kw_only=True):
    """How well what is said of an operator is known.

    Attributes:
        kind: in a word.
        domain: what it was decided on: accumulators, pairs of levels, levels, floats, windows; or samples.
        values: how many of them there are.
        wrong: how many of them are not exact; of these are
        low, high: so many below, and above what they should be.
        displacement: how far, in LSB, the real number of one is from where its level would be right, at most.
        schemes: the rounding schemes that explain all of them; several, where they cannot be told apart.
        why: why not all of it is proved.
        proved: which part of it is, all the same.
        chance: the probability, at most, that a difference in an element was missed.
        witness: an input of the whole program that shows that it is wrong; without one it is wrong unless unreachable.
        rescale, pairs: what is needed to decide it again.

    """

    kind: Kind
    domain: str
    values: Count
    wrong: Count = 0
    low: Count = 0
    high: Count = 0
    displacement: Size = 0
    schemes: list[str] = []
    why: str | None = None
    proved: str | None = None
    chance: Share = 0
    witness: Witness | None = None
    rescale: Rescale | None = None
    pairs: list[Pairs] = []

    @property
    def is_shown(self) -> bool:
        """Whether an input of the program shows that it is wrong."""
        return self.kind is Kind.REFUTED and self.witness is not None

    @property
    def deviation(self) -> str:
        """What is not exact: on which side of the exact level, on how many values, and how far from being right."""
        sides = [("low", self.low), ("high", self.high)]
        counts = ", ".join(f"too {side} on {count:,}" for side, count in sides if count)
        how = f"{self.schemes[0]}: " if len(self.schemes) == 1 else ""
        far = f"up to {self.displacement:.3g} LSB past a boundary"
        return f"{how}{counts} of {self.values:,} {self.domain}, {far}"

    @property
    def is_exact(self) -> bool:
        """Whether no value differs at all."""
        return self.kind is Kind.PROVED and not self.wrong


class Departure(Record, frozen=True, kw_only=True):
    """How far a device's levels are from the Q/DQ program's own, in LSB, at most.

    Attributes:
        kernel: what ran, as the engine names it.
        isolated: on the operands that the operator had in the Q/DQ program; None where the engine did not run it.
        cumulative: on what the device itself gave before.
        why: why it was not run, or not on integers.

    """

    kernel: str | None = None
    isolated: Count | None = None
    cumulative: Count | None = None
    why: str | None = None


class Operator(Record, frozen=True, kw_only=True):
    """A quantized operator of the Q/DQ program.

    Attributes:
        name: as in ``conv2d``; ``input`` for the quantization of what the program is given.
        node: the node that calls it.
        levels: the quantize node that takes its result; None where it stays in float.
        module: the path in the user's model of the module that it belongs to; empty for the model itself.
        source: the line of the user's source, as ``net.py:41``.
        annotated: whether the quantizer marked it.
        qdq: how far its levels in the Q/DQ program are from what its own operands should have given.
        reference: the same in the reference program; None where its levels were not found there. Of a result that is
            not quantized, in units of what one level of its operands changes.
        through: how far they are from those of a program that is exact from its input on; it is told and not judged.
        verdict: what it computes with in the reference program; None where the quantizer did not mark it.
        why: what computes in float, cannot be seen, or is missing.
        arithmetic: what its accumulator becomes levels in: ``integer``, or the narrowest float dtype on the way.
        cost: what quantization itself costs up to here; None where the float model is not known.
        domains: the share of its levels that are not the Q/DQ program's where inputs have infinities, or NaN.
        used: how many of its levels occurred.
        available: how many there are.
        evidence: how well what is said of it is known; None in a report of before.
        devices: by engine, where a device would part from the Q/DQ program.

    """

    name: str
    node: str
    levels: str | None
    module: str | None = None
    source: str | None = None
    annotated: bool | None = None
    qdq: Distance | None = None
    reference: Distance | None = None
    through: Distance | None = None
    verdict: Verdict | None = None
    why: str | None = None
    arithmetic: str | None = None
    cost: Cost | None = None
    domains: dict[Literal["infinite", "nan"], Share] = {}
    used: Count | None = None
    available: Count | None = None
    evidence: Evidence | None = None
    devices: dict[str, Departure] = {}


class Unquantized(Record, frozen=True, kw_only=True):
    """An operator that computes, and that the quantizer left in float; why, if it marked a part of its operands."""

    name: str
    node: str
    module: str | None = None
    source: str | None = None
    why: str | None = None


class SeedCheck(Record, frozen=True, kw_only=True):
    """What upstream's own test says of the same two programs, and its tolerance."""

    outcome: Outcome
    tolerance: float | None


class Programs(Record, frozen=True, kw_only=True):
    """Both programs: for each node a mark (``integer``, ``float`` or nothing) and a line of text."""

    qdq: list[tuple[str, str]] = []
    reference: list[tuple[str, str]] = []


class Case(Record, frozen=True, kw_only=True, tag_field="record", tag="case"):
    """How a case ended, and what was measured.

    Attributes:
        name: the case.
        family: of its operators, for grouping.
        outcome: how it ended.
        known: what its outcome is known for.
        complaint: why it is red.
        change: the complaint in a word.
        stage: where it ended, if it did not come to a verdict.
        reason: why it ended so.
        structure: what the reference program computes with.
        notes: what a reader should know beside.
        operators: the quantized operators, in order.
        unquantized: the operators that the quantizer left in float, in order.
        costs: what quantization itself costs each output; empty where the float model is not known.
        numerics: how far the programs are apart, and from the exact result.
        exact: of the exact result.
        engines: how far the machine's kernels are from the exact result.
        seed_check: what upstream's own test says.
        deterministic: whether the same inputs gave the same when they were run again.
        digest: of the integer levels; equal on every CPU where the arithmetic is.
        seconds: what each stage took.
        programs: both programs.
        command: what runs the case again.

    """

    name: Annotated[str, Meta(max_length=100, pattern="^[^-]")]
    family: Name
    outcome: Outcome
    known: Known | None = None
    complaint: str | None = None
    change: Literal["new", "worse", "gone"] | None = None
    stage: Stage | None = None
    reason: Reason | None = None
    structure: Structure | None = None
    notes: list[Reason] = []
    operators: list[Operator] = []
    unquantized: list[Unquantized] = []
    costs: list[Cost | None] = []
    numerics: Numerics = Numerics()
    exact: Exact | None = None
    engines: dict[str, Engine] = {}
    seed_check: SeedCheck | None = None
    deterministic: bool | None = None
    digest: Digest | None = None
    seconds: dict[str, Annotated[float, Meta(ge=0)]] = {}
    programs: Programs | None = None
    command: str = ""

    @property
    def is_unexpected(self) -> bool:
        """Whether it turns the run red."""
        return self.complaint is not None

    @property
    def to_exact(self) -> Comparison | None:
        """How far it is from the exact result; None where that is not known, for want of an exact form."""
        numbers = self.numerics.reference_vs_exact
        approximated = self.exact is not None and bool(self.exact.approximated)
        return numbers if numbers and numbers.compared and not approximated else None


class Run(Record, frozen=True, kw_only=True, tag_field="record", tag="run"):
    """What was run, with what, and on what.

    Attributes:
        schema: of the report.
        cell: the cell's id.
        listed: whether cells.toml has it.
        torch, torchao, python: versions.
        flow: the home of the PT2E flow.
        machine: the architecture.
        emulated: whether qemu ran it.
        engines: torch's quantized engines.
        xnnpack: whether torch was built with it.
        cpu: the CPU.
        build: the build of torch.
        packages: every package that was installed.
        required: the capabilities that the run required.
        representation: what made the reference programs.
        seed: of weights and inputs.
        started: when.
        host: where.
        key: a digest of all that the result depends on.
        reused: when this result stood for a run, if it did.

    """

    schema: Literal[2] = 2
    cell: Annotated[str, Meta(max_length=100, pattern="^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
    listed: bool
    torch: Annotated[str, Meta(max_length=40, pattern=r"^[0-9]+(\.[0-9]+)*([a-z0-9.+]*)$")]
    torchao: str | None
    flow: FlowName
    machine: Annotated[str, Meta(max_length=40)]
    emulated: bool
    engines: list[str]
    xnnpack: bool
    cpu: Cpu
    build: Build
    python: str
    packages: dict[str, str]
    required: list[str]
    representation: Annotated[str, Meta(min_length=1)] = "upstream"
    seed: int
    started: str
    host: str
    key: Digest
    reused: str | None = None


class End(Record, frozen=True, kw_only=True, tag_field="record", tag="end"):
    """The end of a report: how many cases ended how, how many were selected and how many left out, and the seconds."""

    counts: dict[Outcome, Count]
    selected: Count
    deselected: Count = 0
    seconds: Annotated[float, Meta(ge=0)]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a report's line."""
    return msgspec.json.schema(Run | Case | End)


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(json_schema())).decode())
