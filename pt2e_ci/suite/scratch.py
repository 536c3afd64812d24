"""A folder that the processes of one run share: what they wrote there is known even if they died."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pt2e_ci.outcomes import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Scratch:
    """Files by name: ``run.json`` with the report's run line, and a file with the stage of each case."""

    folder: Path

    def write_run(self, run: dict[str, Any], missing: dict[str, str]) -> None:
        """Keep the run line, and the capabilities that this machine lacks with the reasons."""
        self._write("run.json", json.dumps({"run": run, "missing": missing}))

    def run_record(self) -> dict[str, Any] | None:
        """Return the run line, or None if no process came as far."""
        content = self._run()
        return content["run"] if content else None

    def missing(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of `names` that the machine lacks, each with the reason."""
        content = self._run()
        lacking: dict[str, str] = content["missing"] if content else {}
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

    def _run(self) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except OSError:
            return None
        return content

    def _write(self, name: str, text: str) -> None:
        """Write a file whole: several workers write the run line, and any of them may die."""
        part = self.folder / f".{name}.{os.getpid()}"
        part.write_text(text, encoding="utf-8")
        part.replace(self.folder / name)
