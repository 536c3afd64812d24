"""Cells in containers, on a real engine: the same results as on the host, and nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import docker
import pytest
from conftest import ROOT, is_required

from pt2e_ci.cells.cell import current_cell, load_cells
from pt2e_ci.cells.sources import host_sources
from pt2e_ci.matrix.image import CONTAINER_LABEL, Image, _sources_of, build, build_command, native_platform
from pt2e_ci.record.report import read_report, read_whole_report
from pt2e_ci.views.platforms import differences

CLI = [sys.executable, "-m", "pt2e_ci", "image"]
LIMIT = 1_050_000_000


LEFT = (
    "for name in cc gcc g++ clang pip pip3 uv git; do command -v $name; done;"
    r" find / -xdev \( -name '*.whl' -o -name pip.conf -o -path '/var/lib/apt/lists/*' -o -path '/root/.cache/*'"
    r" -o -path '/var/cache/apt/archives/*.deb' -o -path '/tools*' -o -path '/wheels*' -o -path '/run/secrets/*' \)"
    " -type f"
)


@contextlib.contextmanager
def alone():
    """Keep the other worker of pytest-xdist out: tests look at which containers there are, and build images."""
    with Path(tempfile.gettempdir(), "pt2e-ci-images.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def _one_at_a_time():
    with alone():
        yield


def image(*arguments, **options):
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, cwd=ROOT, **options)


def containers(engine):
    return engine.containers.list(all=True, filters={"label": CONTAINER_LABEL})


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def built(engine):
    """The image of this session's cell, for the engine's own platform."""
    one = Image(current_cell(), native_platform(engine))
    with alone():
        build([one], ROOT)
    return one


@pytest.fixture
def options(built, tmp_path):
    return ["--torch", built.cell.name, "--reports", str(tmp_path)]


@pytest.fixture
def container(engine, built, volume):
    """Start the image as `docker run` does; what it starts is removed, and before any volume."""
    started = []

    def run(*arguments, **options):
        one = engine.containers.run(built.tag, [*arguments], detach=True, **options)
        started.append(one)
        return one

    yield run
    for one in started:
        one.remove(force=True)


@pytest.fixture
def volume(engine):
    """A volume of 4 kB, which no report fits in, or of any other size."""
    made = []

    def make(size):
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={size},mode=1777"}
        made.append(engine.volumes.create(driver="local", driver_opts=options))
        return {made[-1].name: {"bind": "/reports", "mode": "rw"}}

    yield make
    for one in made:
        one.remove(force=True)


def files(engine, built, volumes):
    """List what a volume holds."""
    command = ["-c", "ls -A /reports"]
    return engine.containers.run(built.tag, command, entrypoint="sh", volumes=volumes, remove=True).decode().split()


def test_container_gives_what_the_host_gives(engine, options, built, whole_run, tmp_path):
    done = image("run", *options)
    assert done.returncode == 0, done.stderr
    inside, outside = read_whole_report(tmp_path / f"{built.cell_ids[0]}.jsonl"), whole_run.report
    assert inside.run.cell == outside.run.cell
    here, there = (
        {one.name: (one.outcome, one.digest, one.numerics, one.structure) for one in report.cases}
        for report in (outside, inside)
    )
    assert there == here
    assert inside.run.build == outside.run.build
    assert not containers(engine)


def test_plain_docker_run(container):
    one = container("add_scalar", "conv2d")
    assert one.wait()["StatusCode"] == 0
    printed = one.logs(stdout=True, stderr=False).decode()
    assert "1 of 2 cases hold on torch" in printed


def test_exit_code_is_the_suites(container):
    one = container("add", "--representation", "copy:copy")  # the Q/DQ program itself, which is no integer one
    assert one.wait()["StatusCode"] == 1
    printed = " ".join(one.logs().decode().split())
    assert printed.count("1 not as expected") == 1
    assert "UserWarning" not in printed


def test_report_leaves_on_standard_output(container):
    one = container("add", "--report", "-")
    assert one.wait()["StatusCode"] == 0
    lines = one.logs(stdout=True, stderr=False).decode().splitlines()
    assert [json.loads(line)["record"] for line in lines] == ["run", "case", "end"]


def test_report_leaves_through_a_folder(container, built, tmp_path):
    (tmp_path / "reports").mkdir()
    volumes = {str(tmp_path / "reports"): {"bind": "/reports", "mode": "rw"}}
    one = container("add", volumes=volumes, user=f"{os.getuid()}:{os.getgid()}", read_only=True, tmpfs={"/tmp": ""})
    assert one.wait()["StatusCode"] == 0, one.logs().decode()
    assert read_whole_report(tmp_path / "reports" / f"{built.cell_ids[0]}.jsonl").cases[0].outcome == "inexact"


def test_folder_of_another_user_is_one_line(container, tmp_path):
    (tmp_path / "reports").mkdir(mode=0o755)
    user = "20001:20001"
    one = container("add", volumes={str(tmp_path / "reports"): {"bind": "/reports", "mode": "rw"}}, user=user)
    assert one.wait()["StatusCode"] == 2
    (line,) = one.logs().decode().strip().splitlines()
    assert "Permission denied" in line
    assert "--user" in line


def test_full_disk_leaves_no_report(engine, built, container, volume):
    volumes = volume("4k")
    one = container("add", volumes=volumes)
    assert one.wait()["StatusCode"] == 2
    assert re.search(r"report could not be written to /reports/\S+: No space left", one.logs().decode())
    assert files(engine, built, volumes) == []


def test_kill_leaves_no_report(engine, built, container, volume):
    volumes = volume("1m")
    one = container(volumes=volumes)
    wait_until(lambda: b"items]" in one.logs())
    one.kill("KILL")
    assert one.wait()["StatusCode"] == 137
    assert files(engine, built, volumes) == []


def test_sigterm_keeps_what_is_whole(engine, built, container, tmp_path):
    (tmp_path / "reports").mkdir()
    volumes = {str(tmp_path / "reports"): {"bind": "/reports", "mode": "rw"}}
    one = container(volumes=volumes, user=f"{os.getuid()}:{os.getgid()}")
    wait_until(lambda: b"items]" in one.logs())
    time.sleep(5)  # some cases are done by then, and not all
    one.stop(timeout=60)
    assert one.wait()["StatusCode"] == 143
    (path,) = (tmp_path / "reports").iterdir()
    assert path.name == f"{built.cell_ids[0]}.jsonl.partial"
    report = read_report(path)
    assert len(report.cases) < report.end.selected


def test_a_command_that_is_no_case_is_one_line(container):
    one = container("doctor")
    assert one.wait()["StatusCode"] == 2
    (line,) = one.logs().decode().strip().splitlines()
    assert "'doctor' is a command, not a case" in line


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (["--memory", "150m"], "ran out of memory at 150m: allow more by --memory"),
        (["--memory", "much"], "cannot run: "),
        (["--minutes", "0.05"], "was stopped after 0.05 minutes: allow more by --minutes"),
    ],
)
def test_limits_are_kept(engine, options, tmp_path, limit, says):
    done = image("run", *options, *limit)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
    assert not containers(engine)


def test_container_can_touch_nothing(engine, options, tmp_path):
    process = subprocess.Popen([*CLI, "run", *options], stderr=subprocess.PIPE, cwd=ROOT)
    try:
        wait_until(lambda: containers(engine) and containers(engine)[0].status == "running")
        (one,) = containers(engine)
        settings = one.attrs["HostConfig"]
        assert settings["NetworkMode"] == "none"
        assert settings["ReadonlyRootfs"]
        assert settings["CapDrop"] == ["ALL"]
        assert settings["PidsLimit"] == 512
        assert settings["Memory"] == settings["MemorySwap"] == 4 * 2**30
        assert one.exec_run(["sh", "-c", "id -u"]).output.strip() not in (b"", b"0")
        assert one.exec_run(["touch", "/opt/pt2e-ci/x"]).exit_code
        # Killed by someone else, as an engine that is short of memory does.
        one.kill("KILL")
        assert process.wait(60) == 2
        assert b"was killed from outside" in process.stderr.read().splitlines()[-1]
    finally:
        process.kill()
    assert not list(tmp_path.iterdir())
    assert not containers(engine)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_removes_the_container(engine, options, tmp_path, number):
    process = subprocess.Popen(
        [*CLI, "run", *options],
        stderr=subprocess.PIPE,
        cwd=ROOT,
        # A shell's background job, as this may be one, ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until(lambda: containers(engine) and containers(engine)[0].status == "running")
    process.send_signal(number)
    assert process.wait(60) != 0
    assert b"Traceback" not in process.stderr.read()
    assert not list(tmp_path.iterdir())
    assert not containers(engine)


def test_missing_image_is_one_line(engine, options):
    tag = Image(load_cells().select(["2.1"])[0], native_platform(engine)).tag
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.images.remove(tag)
    done = image("run", "--torch", "2.1", *options[2:])
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "build it with `pt2e-ci image build --torch 2.1 --platform" in line


def test_image_is_small_and_says_what_it_is(engine, built):
    found = engine.images.get(built.tag)
    assert sum(layer["Size"] for layer in found.history()) <= LIMIT
    labels = found.labels
    assert labels["org.pytorch.pt2e-ci.cell"] == built.cell.name
    assert {"org.opencontainers.image.source", "org.opencontainers.image.revision"} <= labels.keys()
    assert found.attrs["Config"]["User"] not in ("", "0", "root")


def test_nothing_of_the_building_is_left(engine, built):
    """No compiler, no installer, no package cache, no lists, and nothing that was mounted."""
    found = engine.containers.run(built.tag, ["-c", LEFT], entrypoint="sh", user="0", remove=True, stderr=True)
    assert found.decode().split() == []


def test_edit_of_the_package_rebuilds_the_last_layer_only(engine, built, checkout, tmp_path):
    """The layers of the system, of torch and of the locked packages stay: nothing is downloaded for them."""
    with (checkout / "pt2e_ci" / "catalogue" / "models.py").open("a") as file:
        file.write("# edited\n")
    (tmp_path / "sources").mkdir()
    command = build_command(built, checkout, None, tmp_path / "sources")
    tag = command.index(f"--tag={built.tag}")
    command[tag] = "--tag=pt2e-ci:edited"
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    steps = dict(re.findall(r"#(\d+) \[((?:system|tools|package|cell) \d/\d)\] (?:RUN|COPY|FROM|WORKDIR)", printed))
    cached = {steps[number] for number in re.findall(r"#(\d+) CACHED", printed) if number in steps}
    assert {"system 2/2", "tools 1/1", "package 1/4", "cell 1/4", "cell 2/4"} <= cached
    assert "cell 3/4" not in cached
    assert "Downloading" not in printed
    layers = [engine.images.get(tag).attrs["RootFS"]["Layers"] for tag in (built.tag, "pt2e-ci:edited")]
    engine.images.remove("pt2e-ci:edited")
    differing = [index for index, (old, new) in enumerate(zip(*layers, strict=True)) if old != new]
    assert differing == [len(layers[0]) - 2]  # what comes after it is the working directory


def test_commands_of_the_docs_work(engine, request, checkout, tmp_path):
    """Each as it stands there, but for what gives a build this host's sources and keeps its registry out of it."""
    lines = [
        line
        for line in (ROOT / "docs" / "docker.md").read_text().splitlines()
        if re.match(r"(mkdir .*&& )?docker ", line)
    ]
    assert len(lines) >= 8
    for line in lines:
        arm64 = "arm64" in line
        if arm64 and not is_required(request, "arm64"):
            continue
        name = re.search(r"TORCH=(\S+)", line)
        cell = load_cells().select([name[1] if name else "2.13"])[0]
        sources = tmp_path / str(len(list(tmp_path.iterdir())))
        sources.mkdir()
        given = _sources_of(Image(cell, "linux/arm64" if arm64 else native_platform(engine)), host_sources(), sources)
        command = line.replace(" --load ", " ").replace("docker buildx build ", "docker build ")
        command = command.replace("docker build ", f"docker buildx build --load {shlex.join(given)} ")
        command = command.replace("docker run ", "docker run --pull=never ")
        done = subprocess.run(command, shell=True, cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert [json.loads(line)["record"] for line in (checkout / "report.jsonl").read_text().splitlines()][-1] == "end"
    (report,) = (checkout / "reports").glob("*.jsonl")
    assert len(read_whole_report(report).cases) > 50


def test_bare_base_is_enough(engine, checkout, tmp_path):
    """One without certificates, as Debian's public image is; and with an installer of its own, as Python's is."""
    base = (
        "FROM debian:bookworm-slim\nENV SSL_CERT_FILE= PIP_CERT=\nRUN rm -r /etc/ssl/certs"
        " && mkdir -p /usr/local/lib/python3.11/ensurepip/_bundled /usr/local/lib/python3.11/site-packages/pip"
        " && touch /usr/local/bin/pip3 /usr/local/lib/python3.11/ensurepip/_bundled/pip.whl"
    )
    docker_build = ["docker", "buildx", "build", "--load", "--quiet"]
    subprocess.run([*docker_build, "--tag=pt2e-ci-bare", "-"], input=base, text=True, check=True, capture_output=True)
    cell = next(cell for cell in (current_cell(), *reversed(load_cells().cells)) if cell.base is None)
    one = Image(cell, native_platform(engine))
    (tmp_path / "sources").mkdir()
    command = build_command(one, checkout, "pt2e-ci-bare", tmp_path / "sources")
    # What this host trusts is in its base, where the package of certificates finds it.
    command = [word for word in command if not word.startswith("id=ca,")]
    command = [word for index, word in enumerate(command) if word != "--secret" or command[index + 1].startswith("id=")]
    command[command.index(f"--tag={one.tag}")] = "--tag=pt2e-ci:bare"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    left = engine.containers.run("pt2e-ci:bare", ["-c", LEFT], entrypoint="sh", user="0", remove=True, stderr=True)
    for tag in ("pt2e-ci:bare", "pt2e-ci-bare"):
        engine.images.remove(tag)
    assert left.decode().split() == []


def test_failing_build_shows_its_last_lines(engine):
    done = image("build", "--torch", "2.4", "--base", "debian:no-such-release")
    assert done.returncode == 2
    assert "no-such-release" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pt2e-ci: error: the image pt2e-ci:2.4-")


@pytest.mark.nightly
def test_architectures_agree(engine, tmp_path):
    """x86-64 and arm64, which may be emulated, give the same integers, but for a bias that overflows."""
    for platform in ("linux/amd64", "linux/arm64"):
        where = ["--torch", "2.4", "--platform", platform]
        for command in (["build", *where], ["run", *where, "--reports", str(tmp_path), "conv2d", "linear_huge_bias"]):
            done = image(*command)
            assert done.returncode == 0, done.stdout + done.stderr
    reports = [read_whole_report(path) for path in sorted(tmp_path.glob("*.jsonl"))]
    assert [report.run.machine for report in reports] == ["aarch64", "x86_64"]
    # It is undefined in C++, and each CPU has its own way with it.
    arm, x86 = "mismatch, 137 LSB from exact on aarch64", "mismatch, 177 LSB from exact on x86_64"
    assert [line.replace(" (emulated)", "") for line in differences(reports)] == [
        "torch2.4-cp311 on aarch64, x86_64: 1 of 2 cases differ",
        f"  linear_huge_bias: {arm}, {x86}",
    ]
