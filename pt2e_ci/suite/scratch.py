"""A folder that the processes of one run share: what they wrote there is known even if they died."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pt2e_ci.record.outcomes import Stage
from pt2e_ci.record.records import Run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class _Content(msgspec.Struct):
    run: Run
    missing: dict[str, str]


@dataclass(frozen=True)
class Scratch:
    """Files by name: ``run.json`` with the report's run line, and a file with the stage of each case."""

    folder: Path

    def write_run(self, run: Run, missing: dict[str, str]) -> None:
        """Keep the run line, and the capabilities that this machine lacks with the reasons."""
        self._write("run.json", msgspec.json.encode(_Content(run, missing)).decode())

    def run_record(self) -> Run | None:
        """Return the run line, or None if no process came as far."""
        content = self._run()
        return content.run if content else None

    def missing(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of `names` that the machine lacks, each with the reason."""
        content = self._run()
        lacking = content.missing if content else {}
        return {name: lacking[name] for name in names if name in lacking}

    def note_stage(self, case: str, stage: Stage) -> None:
        """Keep the stage that a case is in."""
        self._write(f"{case}.stage", stage.value)

    def stage_of(self, case: str) -> Stage | None:
        """Return the last stage that was noted for a case."""
        try:
            return Stage((self.folder / f"{case}.stage").read_text(encoding="utf-8"))
        except OSError:
            return None

    def _run(self) -> _Content | None:
        try:
            return msgspec.json.decode((self.folder / "run.json").read_bytes(), type=_Content)
        except OSError:
            return None

    def _write(self, name: str, text: str) -> None:
        """Write a file whole: several workers write the run line, and any of them may die."""
        part = self.folder / f".{name}.{os.getpid()}"
        part.write_text(text, encoding="utf-8")
        part.replace(self.folder / name)
