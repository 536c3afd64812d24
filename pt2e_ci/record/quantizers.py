"""The report of a quantizer: what it annotates of each operator, and what becomes of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import Kind, Record
from pt2e_ci.record.report import decode_files, encode_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VERSION = 1


class Annotated(Record, frozen=True, kw_only=True):
    """What became of one operator.

    Attributes:
        operator: its name.
        annotated: whether the quantizer marked it.
        grids: the dtypes of the levels of what it takes and gives, its constants in brackets.
        upstream: how it ends in upstream's representation; None where it was not marked.
        exact: how it ends in the exact one.
        evidence: how well that is known.
        error: what preparing or converting raised, or the exact representation, which is red, too.
        moves: whether it only moves or picks values, and is between levels.
        unlisted: what of this is not as the quantizer's row says.

    """

    operator: str
    annotated: bool
    grids: str | None = None
    upstream: Outcome | None = None
    exact: Outcome | None = None
    evidence: Kind | None = None
    error: str | None = None
    moves: bool = False
    unlisted: str | None = None

    @property
    def state(self) -> str:
        """What became of it in a word."""
        if self.error:
            return "error"
        if not self.annotated:
            return "no"
        if self.moves:
            return "moves"
        if self.exact is Outcome.PASS and self.evidence is Kind.PROVED:
            return "proved"
        if self.exact is Outcome.MISMATCH:
            return "wrong"
        return "integer" if self.exact in (Outcome.PASS, Outcome.INEXACT) else "annotated"

    @property
    def is_integer_upstream(self) -> bool:
        """Whether upstream's representation computes it in integers."""
        return self.upstream is not None and self.upstream not in (Outcome.FLOAT, Outcome.ERROR, Outcome.UNQUANTIZED)


class QuantizerReport(Record, frozen=True, kw_only=True):
    """What one quantizer annotates on one torch.

    Attributes:
        quantizer: its name.
        family: whose it is.
        torch: the version of torch.
        torchao: that of torchao, where the flow lives there.
        platform: the system and the architecture.
        missing: what it could not be made without; there are no results then.
        unexpected: what of that is not known.
        results: what became of each operator.
        version: of this report.

    """

    quantizer: str
    family: str
    torch: str
    torchao: str | None
    platform: str
    missing: str | None = None
    unexpected: str | None = None
    results: list[Annotated] = msgspec.field(default_factory=list)
    version: int = VERSION

    @property
    def where(self) -> str:
        """The torch, and the torchao if the flow is there."""
        return f"{self.torch}{f', torchao {self.torchao}' if self.torchao else ''}"

    @property
    def unlisted(self) -> list[str]:
        """What is not as the row says, a line each."""
        about = f"{self.quantizer} on torch {self.where}"
        found = [f"{about}: {one.operator} {one.unlisted}" for one in self.results if one.unlisted]
        return found + ([f"{about}: {self.unexpected}"] if self.unexpected else [])


def save(report: QuantizerReport, folder: Path) -> Path:
    """Write a report into a folder, under the quantizer's name and the torch's; return its path."""
    home = f"-torchao{report.torchao}" if report.torchao else ""
    return encode_file(folder / f"{report.quantizer}-torch{report.torch}{home}.json", report)


def read_reports(paths: Iterable[Path]) -> list[QuantizerReport]:
    """Read the reports in files and folders, by name.

    Raises:
        InputError: there is none, or one of them is something else.

    """
    return decode_files(paths, QuantizerReport, "report of a quantizer", VERSION, "nox -s quantizers")
