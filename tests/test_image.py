"""Images, as far as no engine is needed: what they are built with, and an engine that fails at any call."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import docker
import pytest
import requests
from conftest import ROOT

from pt2e_ci.cells.cell import current_cell, load_cells
from pt2e_ci.cells.sources import Sources
from pt2e_ci.errors import InputError
from pt2e_ci.matrix.image import Image, Limits, _sources_of, build, run
from pt2e_ci.record.report import dump, read_report, read_whole_report

CLI = [sys.executable, "-m", "pt2e_ci", "image"]


def image(*arguments, **options):
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, cwd=ROOT, **options)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "--torch", "2.99"], "unknown cell '2.99'"),
        (["build", "--torch", ","], "--torch needs a name"),
        (["run", "--torch", "2.13", "--platform", "linux/amd46"], "did you mean 'linux/amd64'?"),
        (["run", "--torch", "2.13", "--platform", "windows/amd64"], "unknown platform"),
        (["run", "--torch", "2.13,2.4", "--platform", "linux/amd64"], "one cell and one platform at a time"),
        (["run", "--torch", "2.13", "--minutes", "inf"], "is not in the range"),
        (["run", "--torch", "2.13", "--minutes", "nan"], "not a finite time"),
    ],
)
def test_bad_input_is_one_line(arguments, says):
    done = image(*arguments, env=os.environ | {"DOCKER_HOST": "unix:///var/run/docker.sock"})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert says in done.stderr or "no Docker engine answers" in done.stderr


def test_no_engine_is_one_line(tmp_path):
    platform = ["--platform", "linux/amd64"]
    for host in (f"unix://{tmp_path}/none.sock", "tcp://127.0.0.1:1", "tcp://h:abc"):
        for command in (["run", "--torch", "2.13"], ["build", "--torch", "2.13", *platform]):
            done = image(*command, env=os.environ | {"DOCKER_HOST": host})
            assert done.returncode == 2
            (line,) = done.stderr.strip().splitlines()
            assert f"no Docker engine answers at {host}" in line


def test_engine_of_the_docker_commands_context_is_used(tmp_path):
    """Where DOCKER_HOST does not name one."""
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest()
    meta.mkdir(parents=True)
    endpoint = {"Host": f"unix://{tmp_path}/mine.sock", "SkipTLSVerify": False}
    (meta / "meta.json").write_text(json.dumps({"Name": "mine", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "mine"}))
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    done = image("run", "--torch", "2.13", env=environment | {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert f"{tmp_path}/mine.sock" in line


class Engine:
    """An engine that fails at one call, or whose container gives what it is told to."""

    def __init__(self, fails="", error=None, output=b"", code=0):
        self.containers = self
        self.attrs = {"State": {"OOMKilled": False}}
        self._fails, self._error, self._output, self._code = fails, error, output, code

    def __getattr__(self, name):
        def call(*_arguments, **_options):
            if name == self._fails:
                raise self._error
            return {"create": self, "attach": iter([(self._output, None)]), "wait": {"StatusCode": self._code}}.get(
                name
            )

        return call


def whole(cell_id, selected=1):
    from made import case, report, run

    return dump(report(case("add"), run=run(cell=cell_id), selected=selected)).encode()


FAILURES = [
    docker.errors.APIError("500", explanation="first line\nsecond line"),
    docker.errors.NotFound("no such container"),
    requests.exceptions.ConnectionError("the engine died"),
    requests.exceptions.ReadTimeout("no answer"),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("call", ["create", "attach", "start", "wait", "reload"])
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_failing_engine_is_one_line(tmp_path, call, error):
    one = Image(load_cells().select(["2.4"])[0], "linux/amd64")
    with pytest.raises(InputError) as raised:
        run(Engine(call, error, whole(one.cell_ids[0])), one, [], tmp_path, Limits("1g", 60))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_container_that_cannot_be_removed_takes_nothing_from_its_run(tmp_path):
    one = Image(load_cells().select(["2.4"])[0], "linux/amd64")
    engine = Engine("remove", FAILURES[0], whole(one.cell_ids[0]))
    assert run(engine, one, [], tmp_path, Limits("1g", 60)) == 0
    assert read_whole_report(tmp_path / f"{one.cell_ids[0]}.jsonl")


def test_stopped_run_takes_no_reports_name(tmp_path):
    one = Image(load_cells().select(["2.4"])[0], "linux/amd64")
    earlier = tmp_path / f"{one.cell_ids[0]}.jsonl"
    earlier.write_bytes(whole(one.cell_ids[0]))
    assert run(Engine(output=whole(one.cell_ids[0], selected=2), code=2), one, [], tmp_path, Limits("1g", 60)) == 2
    assert read_whole_report(earlier)
    assert not read_report(tmp_path / f"{earlier.name}.partial").is_complete


def test_report_of_another_cell_is_refused(tmp_path):
    one = Image(load_cells().select(["2.4"])[0], "linux/amd64")
    with pytest.raises(
        InputError, match=r"holds torch2\.4-cp313-linux_x86_64, not torch2\.4-cp311-linux_x86_64: build it"
    ):
        run(Engine(output=whole("torch2.4-cp313-linux_x86_64")), one, [], tmp_path, Limits("1g", 60))
    assert not list(tmp_path.iterdir())


def test_no_permission_is_one_line(monkeypatch):
    def refuse():
        raise docker.errors.DockerException(
            "Error while fetching server API version: ('Connection aborted.', PermissionError(13, 'Permission denied'))"
        )

    monkeypatch.setenv("DOCKER_HOST", "unix:///var/run/docker.sock")
    monkeypatch.setattr(docker, "from_env", refuse)
    from pt2e_ci.matrix.image import connect

    with pytest.raises(InputError, match="add this user to the group docker"):
        connect()


def test_build_needs_a_checkout(tmp_path):
    (tmp_path / "Dockerfile").touch()  # another project's
    with pytest.raises(InputError, match="is not a checkout of pt2e-ci"):
        build([], tmp_path)


def test_build_that_fails_or_has_no_docker_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="the docker command is not on PATH"):
        build([Image(current_cell(), "linux/amd64")], ROOT)
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(InputError, match=r"pt2e-ci:2\.13-arm64 could not be built: docker has said why, above"):
        build([Image(current_cell(), "linux/arm64")], ROOT)


def test_hosts_sources_reach_a_build(tmp_path):
    cell = current_cell()
    wheels = tmp_path / "mine"
    wheels.mkdir()
    for name in (f"torch-{cell.torch}+cpu-cp311-cp311-linux_x86_64.whl", "torch-9.0-cp311-cp311-linux_x86_64.whl"):
        (wheels / name).touch()
    sources = Sources("https://user:secret@index/simple", ("file:///gone",), (str(wheels), "https://links"))
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "sources").mkdir()
    arguments = _sources_of(Image(cell, "linux/amd64"), sources, work)
    assert arguments == ["--build-context", f"wheels={work}/wheels", "--secret", f"id=pip,src={work}/pip.conf"]
    assert [path.name for path in (work / "wheels").iterdir()] == [
        f"torch-{cell.torch}+cpu-cp311-cp311-linux_x86_64.whl"
    ]
    certificate = tmp_path / "ca.crt"
    certificate.touch()
    given = _sources_of(Image(cell, "linux/arm64"), Sources(certificate=str(certificate)), tmp_path / "sources")
    assert given == ["--secret", f"id=ca,src={certificate}"]
    assert (work / "pip.conf").read_text() == (
        "[global]\nindex-url = https://user:secret@index/simple\nfind-links = https://links\n"
    )
