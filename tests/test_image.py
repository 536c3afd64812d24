"""Cells in containers, on a real engine: the same results as on the host, and nothing left behind."""

from __future__ import annotations

import fcntl
import hashlib
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
import requests
from conftest import ROOT, is_required

from pt2e_ci.cells import current_cell, load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.image import (
    CONTAINER_LABEL,
    Image,
    Limits,
    _sources_of,
    build,
    build_command,
    here,
    native_platform,
    plan,
    run,
)
from pt2e_ci.reports.platforms import differences
from pt2e_ci.reports.record import dump, read_report, read_whole_report
from pt2e_ci.sources import Sources, host_sources

CLI = [sys.executable, "-m", "pt2e_ci", "image"]
LIMIT = 1_050_000_000


LEFT = (
    "for name in cc gcc g++ clang pip pip3 uv git; do command -v $name; done;"
    r" find / -xdev \( -name '*.whl' -o -name pip.conf -o -path '/var/lib/apt/lists/*' -o -path '/root/.cache/*'"
    r" -o -path '/var/cache/apt/archives/*.deb' -o -path '/tools*' -o -path '/wheels*' -o -path '/run/secrets/*' \)"
    " -type f"
)


@pytest.fixture(autouse=True)
def _one_at_a_time(request):
    """Tests look at which containers there are, and two workers of pytest-xdist may run two of them at once."""
    if not request.node.get_closest_marker("docker"):
        yield
        return
    with Path(tempfile.gettempdir(), "pt2e-ci-images.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
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


@pytest.mark.docker
def test_container_gives_what_the_host_gives(engine, options, built, whole_run, tmp_path):
    done = image("run", *options)
    assert done.returncode == 0, done.stderr
    inside, outside = read_whole_report(tmp_path / f"{built.cell_id}.jsonl"), whole_run.report
    assert inside.run["cell"] == outside.run["cell"]
    for field in ("outcome", "digest", "numerics", "structure"):
        assert {case["name"]: case[field] for case in inside.cases} == {
            case["name"]: case[field] for case in outside.cases
        }
    assert inside.run["build"] == outside.run["build"]
    assert not containers(engine)


@pytest.mark.docker
def test_plain_docker_run(container):
    one = container("add", "conv2d")
    assert one.wait()["StatusCode"] == 0
    printed = one.logs(stdout=True, stderr=False).decode()
    assert "2 cases: 1 pass, 1 known defects" in printed


@pytest.mark.docker
def test_exit_code_is_the_suites(container):
    one = container("add", "--representation", "copy:copy")  # the Q/DQ program itself, which is no integer one
    assert one.wait()["StatusCode"] == 1
    assert "0 known defects, 0 skipped, 1 unexpected" in one.logs().decode()


@pytest.mark.docker
def test_report_leaves_on_standard_output(container):
    one = container("add", "--report", "-")
    assert one.wait()["StatusCode"] == 0
    lines = one.logs(stdout=True, stderr=False).decode().splitlines()
    assert [json.loads(line)["record"] for line in lines] == ["run", "case", "end"]


@pytest.mark.docker
def test_report_leaves_through_a_folder(container, built, tmp_path):
    (tmp_path / "reports").mkdir()
    volumes = {str(tmp_path / "reports"): {"bind": "/reports", "mode": "rw"}}
    one = container("add", volumes=volumes, user=f"{os.getuid()}:{os.getgid()}", read_only=True, tmpfs={"/tmp": ""})
    assert one.wait()["StatusCode"] == 0, one.logs().decode()
    assert read_whole_report(tmp_path / "reports" / f"{built.cell_id}.jsonl").cases[0]["outcome"] == "pass"


@pytest.mark.docker
def test_folder_of_another_user_is_one_line(container, tmp_path):
    (tmp_path / "reports").mkdir(mode=0o755)
    user = "20001:20001"
    one = container("add", volumes={str(tmp_path / "reports"): {"bind": "/reports", "mode": "rw"}}, user=user)
    assert one.wait()["StatusCode"] == 2
    (line,) = one.logs().decode().strip().splitlines()
    assert "Permission denied" in line
    assert "--user" in line


@pytest.mark.docker
def test_full_disk_leaves_no_report(engine, built, container, volume):
    volumes = volume("4k")
    one = container("add", volumes=volumes)
    assert one.wait()["StatusCode"] == 2
    assert re.search(r"report could not be written to /reports/\S+: No space left", one.logs().decode())
    assert files(engine, built, volumes) == []


@pytest.mark.docker
def test_kill_leaves_no_report(engine, built, container, volume):
    volumes = volume("1m")
    one = container(volumes=volumes)
    wait_until(lambda: b"items]" in one.logs())
    one.kill("KILL")
    assert one.wait()["StatusCode"] == 137
    assert files(engine, built, volumes) == []


@pytest.mark.docker
def test_sigterm_keeps_what_is_whole(engine, built, container, tmp_path):
    (tmp_path / "reports").mkdir()
    volumes = {str(tmp_path / "reports"): {"bind": "/reports", "mode": "rw"}}
    one = container(volumes=volumes, user=f"{os.getuid()}:{os.getgid()}")
    wait_until(lambda: b"items]" in one.logs())
    time.sleep(5)  # some cases are done by then, and not all
    one.stop(timeout=60)
    assert one.wait()["StatusCode"] == 2
    (path,) = (tmp_path / "reports").iterdir()
    assert path.name == f"{built.cell_id}.jsonl.partial"
    report = read_report(path)
    assert len(report.cases) < report.end["selected"]


@pytest.mark.docker
@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (["--memory", "150m"], "ran out of memory at 150 MiB: allow more by --memory"),
        (["--minutes", "0.05"], "was stopped after 0.05 minutes: allow more by --minutes"),
    ],
)
def test_limits_are_kept(engine, options, tmp_path, limit, says):
    done = image("run", *options, *limit)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
    assert not containers(engine)


@pytest.mark.docker
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


@pytest.mark.docker
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


@pytest.mark.docker
def test_missing_image_is_one_line(engine, options, built):
    done = image("run", "--torch", "2.1", *options[2:])
    if here(engine, Image(built.cell, built.platform)) and "there is no image" not in done.stderr:
        pytest.skip("the image of cell 2.1 is here")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "build it with `pt2e-ci image build --torch 2.1 --platform" in line


@pytest.mark.docker
def test_image_is_small_and_says_what_it_is(engine, built):
    found = engine.images.get(built.tag)
    assert sum(layer["Size"] for layer in found.history()) <= LIMIT
    labels = found.labels
    assert labels["org.pytorch.pt2e-ci.cell"] == built.cell.name
    assert {"org.opencontainers.image.source", "org.opencontainers.image.revision"} <= labels.keys()
    assert found.attrs["Config"]["User"] not in ("", "0", "root")


@pytest.mark.docker
def test_nothing_of_the_building_is_left(engine, built):
    """No compiler, no installer, no package cache, no lists, and nothing that was mounted."""
    found = engine.containers.run(built.tag, ["-c", LEFT], entrypoint="sh", user="0", remove=True, stderr=True)
    assert found.decode().split() == []


@pytest.mark.docker
def test_edit_of_the_package_rebuilds_the_last_layer_only(engine, built, checkout, tmp_path):
    """The layers of the system, of torch and of the locked packages stay: nothing is downloaded for them."""
    with (checkout / "pt2e_ci" / "cases" / "models.py").open("a") as file:
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


@pytest.mark.docker
def test_readmes_commands_work(engine, request, checkout, tmp_path):
    """Each as it stands there, but for what gives a build this host's sources and keeps its registry out of it."""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if re.match(r"(mkdir .*&& )?docker ", line)]
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


@pytest.mark.docker
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


@pytest.mark.docker
def test_failing_build_shows_its_last_lines(engine):
    done = image("build", "--torch", "2.4", "--base", "debian:no-such-release")
    assert done.returncode == 2
    assert "no-such-release" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pt2e-ci: error: the image pt2e-ci:2.4-")


@pytest.mark.docker
def test_matrix_ends_with_the_merged_table(engine, options, built):
    done = image("matrix", *options, "--arguments", "conv2d add", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert f"{built.cell.name} {built.platform}: done" in done.stdout
    assert "2 cases: 1 pass, 1 known defects" in done.stdout
    assert not containers(engine)


@pytest.mark.docker
def test_list_tells_what_is_here(engine, built):
    done = image("list")
    (line,) = [line for line in done.stdout.splitlines() if built.tag in line]
    assert "yes" in line
    assert "linux/arm64, emulated" in done.stdout or "linux/amd64, emulated" in done.stdout


@pytest.mark.docker
@pytest.mark.arm64
def test_architectures_agree(engine, request, tmp_path, capsys):
    """x86-64 and emulated arm64 give the same integers, but for the cases that are listed with their size."""
    if not is_required(request, "arm64"):
        pytest.skip("emulating arm64 takes ten minutes: --require docker,arm64 asks for it")
    cases = "static_linear add qdq conv2d maxpool2d linear_rounding linear_huge_bias add_infinite"
    options = ["--torch", "2.4", "--platform", "linux/amd64,linux/arm64", "--reports", str(tmp_path)]
    done = image("matrix", *options, "--arguments", cases)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [read_whole_report(path) for path in sorted(tmp_path.glob("*.jsonl"))]
    assert [(report.run["machine"], report.run["emulated"]) for report in reports] == [
        ("aarch64", True),
        ("x86_64", False),
    ]
    assert "aarch64 (emulated)" in done.stdout
    assert "torch2.4-cp311-linux_aarch64 (emulated)" in done.stdout
    # A bias that overflows is undefined in C++, and each CPU has its own way with it.
    arm, x86 = "mismatch, 137 LSB from exact on aarch64 (emulated)", "mismatch, 177 LSB from exact on x86_64"
    assert differences(reports) == [
        "torch2.4-cp311 on aarch64 (emulated), x86_64: 1 of 8 cases differ",
        f"  linear_huge_bias: {arm}, {x86}",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "--torch", "2.99"], "unknown cell '2.99'"),
        (["build", "--torch", ","], "--torch needs a name"),
        (["run", "--torch", "2.13", "--platform", "linux/amd46"], "did you mean 'linux/amd64'?"),
        (["run", "--torch", "2.13", "--platform", "windows/amd64"], "unknown platform"),
        (["run", "--torch", "2.13,2.4", "--platform", "linux/amd64"], "one cell and one platform at a time"),
        (["run", "--torch", "2.13", "--memory", "much"], "'much' is no size"),
        (["run", "--torch", "2.13", "--memory", "0g"], "less than an engine gives"),
        (["run", "--torch", "2.13", "--minutes", "inf"], "is not in the range"),
        (["run", "--torch", "2.13", "--minutes", "nan"], "no time that ends"),
        (["matrix", "--torch", "2.13", "--arguments", "'"], "--arguments cannot be read as a shell would"),
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
        for command in (["run", "--torch", "2.13"], ["list"], ["build", "--torch", "2.13", *platform]):
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
    done = image("list", env=environment | {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
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
    from test_report import RUN, case, report

    return dump(report(case("add"), run=RUN | {"cell": cell_id}, selected=selected)).encode()


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
        run(Engine(call, error, whole(one.cell_id)), one, [], tmp_path, Limits(2**30, 100, 60))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_container_that_cannot_be_removed_takes_nothing_from_its_run(tmp_path):
    one = Image(load_cells().select(["2.4"])[0], "linux/amd64")
    engine = Engine("remove", FAILURES[0], whole(one.cell_id))
    assert run(engine, one, [], tmp_path, Limits(2**30, 100, 60)) == 0
    assert read_whole_report(tmp_path / f"{one.cell_id}.jsonl")


def test_stopped_run_takes_no_reports_name(tmp_path):
    one = Image(load_cells().select(["2.4"])[0], "linux/amd64")
    earlier = tmp_path / f"{one.cell_id}.jsonl"
    earlier.write_bytes(whole(one.cell_id))
    assert run(Engine(output=whole(one.cell_id, selected=2), code=2), one, [], tmp_path, Limits(2**30, 100, 60)) == 2
    assert read_whole_report(earlier)
    assert not read_report(tmp_path / f"{earlier.name}.partial").is_complete


def test_report_of_another_cell_is_refused(tmp_path):
    one = Image(load_cells().select(["2.4"])[0], "linux/amd64")
    with pytest.raises(
        InputError, match=r"holds torch2\.4-cp313-linux_x86_64, not torch2\.4-cp311-linux_x86_64: build it"
    ):
        run(Engine(output=whole("torch2.4-cp313-linux_x86_64")), one, [], tmp_path, Limits(2**30, 100, 60))
    assert not list(tmp_path.iterdir())


def test_no_permission_is_one_line(monkeypatch):
    def refuse():
        try:
            raise PermissionError(13, "Permission denied")
        except PermissionError as error:
            raise docker.errors.DockerException("Error while fetching server API version") from error

    monkeypatch.setenv("DOCKER_HOST", "unix:///var/run/docker.sock")
    monkeypatch.setattr(docker, "from_env", refuse)
    from pt2e_ci.image import connect

    with pytest.raises(InputError, match="add this user to the group docker"):
        connect()


def test_build_needs_a_checkout(tmp_path):
    (tmp_path / "Dockerfile").touch()  # another project's
    with pytest.raises(InputError, match="is no checkout of pt2e-ci"):
        build([], tmp_path)


def test_platform_that_cannot_be_built_is_refused(monkeypatch):
    from pt2e_ci import image as module

    monkeypatch.setattr(module, "_built_platforms", lambda: ["linux/amd64"])
    with pytest.raises(InputError, match=r"cannot build for linux/arm64, only for linux/amd64: set up qemu"):
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


def test_matrix_runs_the_command_of_one_image(tmp_path):
    images = [Image(current_cell(), platform) for platform in ("linux/amd64", "linux/arm64")]
    matrix = plan(images, tmp_path, ["add"], None, Limits(2**30, 100, 60))
    assert [job.name for job in matrix.jobs] == [f"{images[0].cell.name} {one.platform}" for one in images]
    assert matrix.jobs[1].report.name.endswith("-linux_aarch64.jsonl")
    command = matrix.jobs[0].command
    assert command[-2:] == ["--", "add"]
    assert {"--memory=1073741824b", "--processes=100", "--minutes=1.0"} <= set(command)
