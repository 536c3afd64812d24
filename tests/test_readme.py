"""README and docs say what is so: their commands are those that CI runs, their results those that a run gives."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from pt2e_ci.catalogue.cases import CASES
from pt2e_ci.cells.cell import current_cell, load_cells
from pt2e_ci.controls.index import FAULTS
from pt2e_ci.record import reasons
from pt2e_ci.views.table import rows

PREFERRED = load_cells().select([current_cell().name])[0].python.replace(".", "")
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
needs_docs = pytest.mark.skipif(not DOCS.exists(), reason="an sdist has no documentation")


def table(page, first_column):
    """Return the cells of a page's table that begins with a column."""
    text = (DOCS / page).read_text()
    (found,) = re.findall(rf"^\| {first_column} \|.*\n\|[ \-|]*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip().replace("\\", "") for cell in line.strip("|").split(" | ")] for line in found.splitlines()]


@needs_docs
def test_every_cell_is_listed():
    assert table("running.md", "Session") == [
        [f"`{cell.session}`", cell.torch, cell.flow, cell.torchao or "\N{EN DASH}", ", ".join(cell.pythons)]
        for cell in load_cells().cells
    ]


@needs_docs
def test_results_are_those_of_this_torch(whole_run):
    # Stated are those of the Python that is preferred; which of a cell's it is changes nothing.
    cell = re.sub(r"cp\d+", f"cp{PREFERRED}", whole_run.report.run.cell.rpartition("-")[0])

    def holds(cells):
        return (cells == "all" or cell in cells) != cells.startswith("all but")

    stated = [row[:-1] for row in table("results.md", r"Case \| Outcome") if holds(row[-1])]
    assert stated == [[text.replace("\\", "") for text in row.texts] for row in rows([whole_run.report])]


@needs_docs
def test_score_of_upstreams_rule_is_stated():
    (stated,) = re.findall(
        r"^(\d+) faults: (\d+) caught; upstream's rule on upstream's own cases catches \d+",
        (DOCS / "running.md").read_text(),
        re.M,
    )
    assert stated == (str(len(FAULTS)),) * 2


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with README's model, and what its command prints here."""
    folder = tmp_path_factory.mktemp("own")
    (text,) = [block for block in re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S) if "\nmodel = " in block]
    (folder / "model.py").write_text(text)
    command = [sys.executable, "-m", "pt2e_ci", "check", "model.py"]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the README shows the answer of x86-64")
def test_answer_on_your_own_model_is_stated(own):
    _, done = own
    assert done.returncode == 1
    assert f"```\n{done.stdout}```\n" in README


def test_exact_representation_is_proved_on_the_readmes_model(own):
    folder, _ = own
    command = [sys.executable, "-m", "pt2e_ci", "check", "model.py", "--representation", "exact", "--report", "r.jsonl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"```\n{done.stdout.splitlines()[1]}\n```\n" in README


def test_assertion_of_the_readme_holds(own):
    folder, _ = own
    (text,) = [
        block for block in re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S) if "assert_integer" in block
    ]
    (folder / "test_own.py").write_text(f"from model import inputs, model\n{text}")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout


@needs_docs
def test_page_of_reasons_is_what_its_source_says():
    assert (DOCS / "reasons.md").read_text() == reasons.page()


def test_readme_is_short_and_counts_right():
    assert len(README.splitlines()) <= 150
    assert f"{len(CASES)} cases on {len(load_cells().cells)} cells" in README


def test_every_link_of_the_readme_leads_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists() or (link.startswith("docs/") and not DOCS.exists()), link


COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
# Run by hand, or by a workflow, and not by .ci/run: what makes locks, and what only names a file.
ELSEWHERE = ("docker ", "mkdir -p reports && docker", "pytest --pyargs", "pt2e-ci doctor", "pt2e-ci run ")


@needs_docs
@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted(DOCS.glob("*.md")))])
def test_every_command_is_run_by_ci_or_by_the_nightly_workflow(page):
    scripts = [ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "nightly.yml"]
    if not all(script.exists() for script in scripts):
        pytest.skip("an sdist has no CI script")
    said = "\n".join(script.read_text() for script in scripts)
    for block in COMMANDS.findall((ROOT / page).read_text()):
        for line in block.splitlines():
            command = line.split("  #")[0].strip()
            if command and not command.startswith(ELSEWHERE):
                assert command in said, command


def test_two_commands_are_those_that_ci_runs():
    commands = [line for line in README.splitlines() if line.startswith("sh prepare.sh && .venv/bin/nox -s")]
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("an sdist has no CI script")
    assert len(commands) == 2
    assert set(commands) <= set(script.read_text().splitlines())
