"""Jobs of the workflows, which act runs on a real engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from pt2e_ci.cells.cell import PLATFORMS, load_cells
from pt2e_ci.record.report import read_whole_report

WORKFLOWS = ROOT / ".github" / "workflows"
ACT = Path(__file__).with_name("act")
CI = (WORKFLOWS / "ci.yml").read_text()

RUNNER = "pt2e-ci-act-runner"
SOME = "static_linear or add_relu or conv2d_stride"


def act(tmp_path, *arguments, platforms="linux/amd64", workflow=WORKFLOWS / "ci.yml", caller=ROOT):
    """Run jobs of a workflow on the local engine; what they upload lands in tmp_path."""
    build = ["docker", "buildx", "build", "--quiet", "--load", f"--tag={RUNNER}", f"--platform={platforms}"]
    subprocess.run([*build, str(ACT)], check=True, capture_output=True)
    command = ["act", "push", "--workflows", str(workflow), "--pull=false", "--rm", "--no-cache-server"]
    command += ["-P", f"ubuntu-24.04={RUNNER}", "-P", f"ubuntu-24.04-arm={RUNNER}"]
    command += ["--container-architecture", platforms]
    for name in ("setup-python", "cache", "upload-artifact"):
        pin = re.search(rf"actions/{name}@[0-9a-f]+", CI)[0]
        command += ["--local-repository", f"{pin}={ACT / name}"]
    mounts = [f"--volume={tmp_path}:/artifacts"]
    # This host's wheels of torch, where it has some.
    wheels = [
        folder
        for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS")
        for folder in os.environ.get(name, "").replace(",", " ").split()
    ]
    if folders := [folder for folder in dict.fromkeys(wheels) if Path(folder).is_dir()]:
        mounts += [f"--volume={folder}:/wheels/{index}:ro" for index, folder in enumerate(folders)]
        command += ["--env", "PIP_FIND_LINKS=" + " ".join(f"/wheels/{index}" for index in range(len(folders)))]
    # What is emulated is slow: few cases in one process, and no bytecode of what none of them imports.
    command += ["--env", f"PYTEST_ADDOPTS=-k '{SOME}' -n0 --report=reports/", "--env", "UV_COMPILE_BYTECODE=0"]
    command += ["--container-options", " ".join(mounts)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=caller)


def test_act_runs_the_lint_job(engine, tmp_path):
    done = act(tmp_path, "--job", "lint")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Session lint was successful" in done.stdout


@pytest.mark.parametrize(
    "platform", ["linux/amd64", pytest.param("linux/arm64", marks=pytest.mark.nightly)], ids=["amd64", "arm64"]
)
def test_act_runs_a_cell_as_nox_does(engine, tmp_path, platform):
    """The report that the job uploads has the outcomes and the digests of the same cell's session on this host."""
    uploaded = tmp_path / "uploaded"
    uploaded.mkdir()
    done = act(
        uploaded, "--job", "cell", "--matrix", "cell:2.4", "--matrix", f"platform:{platform}", platforms=platform
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    identity = load_cells().select(["2.4"])[0].id(PLATFORMS[platform])
    job = read_whole_report(uploaded / f"report-{identity}" / f"{identity}.jsonl")
    options = ["-k", SOME, f"--report={tmp_path / 'here.jsonl'}"]
    session = [sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py"), "-s", "test-2.4", "--", *options]
    subprocess.run(session, check=True, capture_output=True)
    here = read_whole_report(tmp_path / "here.jsonl")
    assert [(one.name, one.outcome, one.digest) for one in job.cases] == [
        (one.name, one.outcome, one.digest) for one in here.cases
    ]
    assert job.run.emulated == (platform == "linux/arm64")


CALLER = f"""
on: push
jobs:
  check:
    runs-on: ubuntu-24.04
    steps:
      - uses: {re.search("actions/checkout@[0-9a-f]+", CI)[0]}
      - id: suite
        uses: owner/pt2e-ci/.github/actions/suite@main
        with:
          torch: "2.4"
          model: nets/model.py:head
          package: ./own
          quantizer: own_quantizer:ours
          representation: exact
      - uses: {re.search("actions/upload-artifact@[0-9a-f]+", CI)[0]}
        with:
          name: reports
          path: reports/*
"""
PACKAGE = """
[project]
name = "own"
version = "1"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
py-modules = ["own_quantizer"]
"""
QUANTIZER = """
from torch.ao.quantization.quantizer import xnnpack_quantizer as xnnpack


def ours():
    return xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config())
"""
MODEL = """
import torch
from torch import nn

head = nn.Linear(4, 3).eval()
inputs = (torch.randn(2, 4),)
"""


@pytest.mark.nightly
def test_act_checks_a_model_of_another_repository_by_the_action(engine, tmp_path, checkout):
    """With a quantizer of that repository's own package, and the paths being that repository's."""
    caller, uploaded = tmp_path / "caller", tmp_path / "uploaded"
    uploaded.mkdir()
    files = {
        ".github/workflows/check.yml": CALLER,
        "own/pyproject.toml": PACKAGE,
        "own/own_quantizer.py": QUANTIZER,
        "nets/model.py": MODEL,
    }
    for name, text in files.items():
        (caller / name).parent.mkdir(parents=True, exist_ok=True)
        (caller / name).write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "."]):
        subprocess.run([*git, *arguments], cwd=caller, check=True)
    workflow = caller / ".github" / "workflows" / "check.yml"
    shutil.copytree(ROOT / ".github", checkout / ".github")
    action = ["--local-repository", f"owner/pt2e-ci@main={checkout}"]
    done = act(uploaded, *action, workflow=workflow, caller=caller)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    identity = load_cells().select(["2.4"])[0].id(PLATFORMS["linux/amd64"])
    (case,) = read_whole_report(uploaded / "reports" / f"{identity}.jsonl").cases
    assert (case.name, case.outcome) == ("model:head", "pass")
    assert [one.name for one in case.operators if one.verdict] == ["linear"]
    assert (uploaded / "reports" / "index.html").exists()
