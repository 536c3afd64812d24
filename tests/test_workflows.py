"""The workflows: what selects their jobs, what decides over them, and act, which runs them on a real engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT
from made import case, report
from made import run as run_of

from pt2e_ci.cells.capabilities import CAPABILITIES
from pt2e_ci.cells.cell import CELLS_FILE, PLATFORMS, load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.matrix.github import BASE, MOST_JOBS, complaints, error_commands, job_matrix
from pt2e_ci.record.report import dump

WORKFLOWS = ROOT / ".github" / "workflows"
CI = (WORKFLOWS / "ci.yml").read_text()
CELLS = load_cells().cells
GREEN = {name: {"result": "success", "outputs": {}} for name in ("lint", "tests", "engines", "select", "cell")}

NEW_CELL = '\n[[cell]]\nname = "9.9"\ntorch = "9.9.0"\npythons = ["3.11"]\nflow = "torch.ao"\n'


def cli(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "pt2e_ci", *arguments], capture_output=True, text=True, **options)


def tox(*arguments, root=ROOT, **variables):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "TOX", "TORCH"))
    }
    return subprocess.run(
        [sys.executable, "-m", "tox", "-c", str(root), *arguments],
        capture_output=True,
        text=True,
        env=environment | variables,
        cwd=root,
    )


def test_matrix_is_every_cell_on_every_platform():
    done = cli("cells", "--github")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()  # for GITHUB_OUTPUT takes one line
    jobs = json.loads(line)["include"]
    assert [job["id"] for job in jobs] == [cell.id(tag) for cell in CELLS for tag in PLATFORMS.values()]
    assert {job["runner"] for job in jobs} == {"ubuntu-24.04", "ubuntu-24.04-arm"}
    assert all(set(job["require"].split(",")) <= set(CAPABILITIES) for job in jobs)
    assert len(jobs) < MOST_JOBS


def test_matrix_of_a_pull_request_is_a_part_of_it():
    every, some = (
        json.loads(cli("cells", "--github", *option).stdout)["include"] for option in ([], ["--pull-request"])
    )
    assert 0 < len(some) < len(every)
    assert all(job in every for job in some)


def test_matrix_of_named_cells():
    done = cli("cells", "2.4", "--github", "--platform", "linux/arm64")
    assert [job["id"] for job in json.loads(done.stdout)["include"]] == ["torch2.4-cp311-linux_aarch64"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["9.9"], "unknown cell '9.9'"),
        (["--platform", "linux/arm"], "did you mean 'linux/arm64'?"),
        (["--platform", ""], "needs a name"),
    ],
)
def test_bad_selection_is_one_line(arguments, says):
    assert cli("cells", *arguments).returncode == 2
    done = cli("cells", *arguments, "--github")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line
    assert not done.stdout


def test_networks_go_through_every_cell_at_night():
    job = (WORKFLOWS / "nightly.yml").read_text().partition("\n  networks:\n")[2].partition("    steps:\n")[0]
    assert re.findall(r'- "(.+)"', job) == [cell.name for cell in CELLS]


def test_empty_or_too_large_matrix_is_refused():
    with pytest.raises(InputError, match="no cell is selected"):
        job_matrix([], ["linux/amd64"])
    with pytest.raises(InputError, match="258 jobs, where GitHub makes 256"):
        job_matrix(CELLS[:1] * 129, [*PLATFORMS])


def test_platform_given_twice_is_one():
    done = cli("cells", "2.4", "--github", "--platform", "linux/arm64, linux/arm64")
    assert len(json.loads(done.stdout)["include"]) == 1


def test_new_cell_is_in_matrix_and_nox(checkout):
    """With no other edit than that of cells.toml."""
    with (checkout / "pt2e_ci" / "cells" / CELLS_FILE.name).open("a") as file:
        file.write(NEW_CELL)
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    jobs = json.loads(cli("cells", "--github", cwd=checkout, env=environment).stdout)["include"]
    assert "torch9.9-cp311-linux_aarch64" in [job["id"] for job in jobs]
    listed = subprocess.run([sys.executable, "-m", "nox", "-l"], cwd=checkout, capture_output=True, text=True)
    assert "- test-9.9 [cell] ->" in listed.stdout


def test_toxs_settings_are_those_that_the_command_prints():
    assert (ROOT / "pyproject.toml").read_text().endswith(cli("cells", "--tox").stdout)


@pytest.mark.parametrize("name", ["2.1", "2.10", "2.15-py3.15"])
def test_variable_picks_the_cells_session_alone(name):
    (cell,) = load_cells().select([name])
    assert tox("-l", GITHUB_ACTIONS="true", TORCH=name).stdout.split() == [cell.tox]


def test_environment_runs_the_cells_session():
    shown = tox("config", "-e", "torch215py315", "-k", "commands", "--", "conv2d").stdout
    assert "commands = nox -s test-2.15-py3.15 -- conv2d" in shown
    # Each name is one factor, that no other environment shares, and is read as no release of Python.
    assert all(re.fullmatch("torch[0-9a-z]+", cell.tox) for cell in CELLS)
    assert len({cell.tox for cell in CELLS}) == len(CELLS)


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ([], {"GITHUB_ACTIONS": "true", "TORCH": "2.99"}),
        ([], {"GITHUB_ACTIONS": "true"}),
        (["-e", "torch299"], {}),
        (["-e", "py"], {}),
    ],
)
def test_environment_of_no_cell_fails(tmp_path, arguments, variables):
    """An empty list of environments, or one that runs nothing, would look like success."""
    done = tox("--workdir", str(tmp_path), *arguments, **variables)
    assert done.returncode
    assert "no cell" in done.stdout + done.stderr or "not found" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_pattern_of_a_cells_digests_finds_its_own_alone():
    """As a runner matches names of artifacts; one cell's name may begin another's."""
    text = (WORKFLOWS / "image.yml").read_text()
    name = re.search(r"name: (digest\S*\$\{\{ matrix.cell \}\}.*)", text)[1]
    pattern = re.search(r"pattern: (digest.*)", text)[1]
    jobs = job_matrix(CELLS, [*PLATFORMS])["include"]

    def filled(template, job):
        return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda match: job[match[1]], template)

    names = [filled(name, job) for job in jobs]
    assert len(set(names)) == len(jobs)
    for cell in CELLS:
        found = [one for one in names if fnmatch.fnmatchcase(one, filled(pattern, {"cell": cell.name}))]
        assert found == [filled(name, job) for job in jobs if job["cell"] == cell.name]


def test_workflow_tests_every_python_of_a_cell():
    (listed,) = re.findall(r"python: (\[.*\])", CI)
    assert set(json.loads(listed)) == {cell.python for cell in CELLS}


def test_images_of_the_workflow_are_built_on_the_dockerfiles_base():
    assert f"ARG BASE={BASE}\n" in (ROOT / "Dockerfile").read_text()
    jobs = job_matrix(CELLS, ["linux/amd64"])["include"]
    assert {job["base"] for job in jobs if job["python"] == "3.11"} == {BASE}
    assert all(job["base"] != BASE for job in jobs if job["python"] != "3.11")


def test_cap_on_tox_is_written_once():
    pages = (ROOT / "docs").glob("*.md")
    texts = [path.read_text() for path in (ROOT / "pyproject.toml", *pages, *WORKFLOWS.glob("*.yml"))]
    assert sum(text.count("<4.67.14") for text in texts) == 1


@pytest.fixture
def run(tmp_path):
    """A run of two cells, all well: what the required job is given."""
    matrix = job_matrix(CELLS[:2], ["linux/amd64"])
    for job in matrix["include"]:
        text = dump(report(case("add"), run=run_of(cell=job["id"])))
        (tmp_path / f"{job['id']}.jsonl").write_text(text)
    return matrix, tmp_path


def verdict(needs, matrix, reports):
    """Run the required job's own step."""
    step = re.search(r"run: (pt2e-ci github verdict .*)", CI)[1]
    environment = os.environ | {"NEEDS": json.dumps(needs), "MATRIX": json.dumps(matrix) if matrix is not None else ""}
    command = step.replace("pt2e-ci", f"{shlex.quote(sys.executable)} -m pt2e_ci").replace(
        "--reports reports", f"--reports {reports}"
    )
    return subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)


def test_required_job_is_green_if_all_is_well(run):
    done = verdict(GREEN, *run)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("result", ["failure", "cancelled", "skipped"])
@pytest.mark.parametrize("job", GREEN)
def test_required_job_is_red_for_a_job_that_did_not_succeed(run, job, result):
    done = verdict(GREEN | {job: {"result": result}}, *run)
    assert done.returncode == 1
    assert f"::error::job {job}: {result}" in done.stdout


@pytest.mark.parametrize("job", ["x", {}, {"id": 1}, {"id": "../x"}, {"id": "a\n::set-output name=x::y"}, {"id": "\0"}])
def test_required_job_is_red_for_a_job_that_is_no_cells(run, job):
    done = verdict(GREEN, {"include": [job]}, run[1])
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("::error::the matrix has a job without the id of a cell")


@pytest.mark.parametrize("matrix", [None, {}, {"include": []}, []])
def test_required_job_is_red_for_an_empty_matrix(run, matrix):
    done = verdict(GREEN, matrix, run[1])
    assert done.returncode == 1
    assert "the matrix is empty" in done.stdout


def test_required_job_is_red_for_a_missing_or_cut_report(run):
    matrix, reports = run
    first, second = (reports / f"{job['id']}.jsonl" for job in matrix["include"])
    first.unlink()
    second.write_text(second.read_text()[:-20])
    done = verdict(GREEN, matrix, reports)
    assert done.returncode == 1
    assert done.stdout.count("no report:") == 2


def test_required_job_is_red_for_a_failed_case_and_a_swapped_report(run):
    matrix, reports = run
    first, second = matrix["include"]
    red = case("conv2d", "float", complaint="unexpected", reason="in float")
    (reports / f"{first['id']}.jsonl").write_text(dump(report(red, run=run_of(cell=second["id"]))))
    found = complaints(GREEN, matrix, reports)
    assert found == [
        f"cell {first['id']}: its report is of {second['id']}",
        f"cell {first['id']}: unexpected: conv2d",
    ]


def test_no_needs_and_no_json_are_refused(run):
    assert complaints({}, *run) == ["no job was needed, so nothing is known of any"]
    done = cli("github", "verdict", "--needs", "{", "--matrix", "{}", "--reports", ".")
    assert done.returncode == 2
    assert "--needs is not JSON" in done.stderr
    done = cli("github", "verdict", "--needs", "[" * 100_000, "--reports", ".")
    assert (done.returncode, "is not JSON" in done.stderr) == (2, True)
    assert cli("github", "annotate").returncode == 2


def test_reports_are_attested_as_a_test_result(tmp_path):
    known = case("mul", "float", known={"reason": "no pattern", "link": "https://example.org"})
    red = case("cat", "crash", complaint="new")
    for name, cases in (("good", [case("add")]), ("known", [case("add"), known]), ("red", [case("add"), known, red])):
        (tmp_path / f"{name}.jsonl").write_text(dump(report(*cases, run=run_of(cell=name))))
    files = [str(tmp_path / f"{name}.jsonl") for name in ("good", "known", "red")]
    done = cli("github", "predicate", *files, "--url", "https://example.org/run/1")
    found = json.loads(done.stdout)
    assert (found["result"], found["url"]) == ("FAILED", "https://example.org/run/1")
    assert found["passedTests"] == ["good add", "known add", "red add"]
    assert (found["warnedTests"], found["failedTests"]) == (["known mul", "red mul"], ["red cat"])
    assert [one["name"] for one in found["configuration"]] == ["good", "known", "red"]
    assert all(re.fullmatch("[0-9a-f]{64}", one["digest"]["sha256"]) for one in found["configuration"])
    results = [json.loads(cli("github", "predicate", file, "--url", "u").stdout)["result"] for file in files]
    assert results == ["PASSED", "WARNED", "FAILED"]
    (tmp_path / "red.jsonl").write_text(dump(report(*cases))[:-9])
    assert cli("github", "predicate", *files, "--url", "u").returncode == 2


def test_required_job_waits_for_every_other_job():
    jobs = re.findall(r"^  ([a-z]+):$", CI.partition("\njobs:\n")[2], re.MULTILINE)
    (needs,) = re.findall(r"name: required\n    needs: \[(.*)\]\n    if: always\(\)", CI)
    assert needs.split(", ") == [job for job in jobs if job != "required"]
    assert set(jobs) - {"required"} == set(GREEN)


def test_annotations_show_unexpected_cases_and_cannot_be_left():
    hostile = case("conv2d", "float", complaint="bad\n::set-output name=x::y", reason="100% float")
    lines = error_commands([report(case("add"), hostile)])
    assert lines == ["::error title=conv2d on torch2.4-cp311-linux_x86_64::bad%0A::set-output name=x::y (100%25 float)"]


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_and_jobs_limited(path):
    text = path.read_text()
    assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)
    for used in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"\$/\S+|[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used
    jobs = re.split(r"^  \w+:\n", text.partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]
    for job in jobs:
        assert "timeout-minutes:" in job or "uses: $/.github/workflows/" in job
        assert "permissions:" in job


ACTION = ROOT / ".github" / "actions" / "suite" / "action.yml"


def step(number, cwd, **variables):
    """Run the script of one of the composite action's steps."""
    scripts = [textwrap.dedent(one) for one in re.findall(r"run: \|\n((?:        .*\n|\n)+)", ACTION.read_text())]
    environment = {
        "PATH": os.environ["PATH"],
        "GITHUB_OUTPUT": str(cwd / "output"),
        "RUNNER_TEMP": str(cwd),
    } | variables
    script = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", scripts[number]]
    return subprocess.run(script, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("torch", "sessions", "pythons"),
    [
        ("2.4", "test-2.4", "3.11"),
        ("2.4, 2.13", "test-2.4 test-2.13", "3.11"),
        ("2.4,\n2.15-py3.15\n", "test-2.4 test-2.15-py3.15", "3.11\n3.15"),
    ],
)
def test_action_selects_sessions_and_their_pythons(tmp_path, torch, sessions, pythons):
    done = step(0, tmp_path, CELLS=str(CELLS_FILE), TORCH=torch)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text() == f"sessions={sessions}\npythons<<END\n{pythons}\nEND\n"


@pytest.mark.parametrize("torch", ["", " , ", "2.99", "2.4,2.99"])
def test_action_refuses_what_is_no_cell(tmp_path, torch):
    done = step(0, tmp_path, CELLS=str(CELLS_FILE), TORCH=torch)
    assert done.returncode
    (line,) = done.stderr.splitlines()
    assert line.startswith("::error::torch: ")
    assert "2.13" in line


OWN = {"QUANTIZER": "mine:q", "CASES": "mine:c", "CRITERIA": "mine:k", "MODEL": "net.py:model", "REQUIRE": "qnnpack"}


@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        (0, {"REQUIRE": "qnnpack"}, ["--require", "qnnpack", "--representation", "mine:f"]),
        (1, {"REQUIRE": "qnnpack"}, ["--require", "qnnpack", "--representation", "mine:f"]),
        # A model is not skipped, so nothing is required.
        (
            1,
            OWN,
            [
                *("--representation", "mine:f", "--quantizer", "mine:q"),
                *("--cases", "mine:c", "--criteria", "mine:k", "--model", "net.py:model"),
            ],
        ),
    ],
    ids=["green", "red", "own model"],
)
def test_action_runs_the_sessions_with_what_the_caller_gives(tmp_path, code, more, expected):
    """And ends as they do, with the page made also of what is red."""
    workspace = tmp_path / "my checkout"
    workspace.mkdir()
    tools = tmp_path / "pt2e-ci" / "bin"
    tools.mkdir(parents=True)
    for name, body in {
        "python": "",
        "pip": "",
        "nox": f'printf "%s\\n" "$PT2E_CI_WITH" "$@" > {tmp_path}/nox; mkdir "$GITHUB_WORKSPACE/reports";'
        f' touch "$GITHUB_WORKSPACE/reports/a.jsonl"; exit {code}',
        "pt2e-ci": f'printf "%s\\n" "$@" > {tmp_path}/views',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    inputs = {
        "PACKAGE": ".[test] numpy",
        "REPRESENTATION": "mine:f",
        "ARGUMENTS": "conv2d\nadd -x",
        **more,
    }
    given = {"SUITE": "/suite", "SESSIONS": "test-2.4 test-2.13", "GITHUB_WORKSPACE": str(workspace)}
    done = step(1, tmp_path, PATH=f"{tools}:{os.environ['PATH']}", **inputs, **given)
    assert done.returncode == code, done.stderr
    package, *arguments = (tmp_path / "nox").read_text().splitlines()
    assert shlex.split(package) == [f"{workspace}/.[test]", "numpy"]
    assert arguments == [
        "-f", "/suite/noxfile.py", "-s", "test-2.4", "test-2.13", "--", "conv2d", "add", "-x",
        *expected, f"--report={workspace}/reports/",
    ]  # fmt: skip
    reports = f"{workspace}/reports"
    assert (tmp_path / "views").read_text().splitlines() == [
        "report", reports, "--html", reports, "--markdown", f"{reports}/summary.md",
    ]  # fmt: skip
    assert (tmp_path / "output").read_text() == f"reports={reports}\n"
