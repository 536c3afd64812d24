"""Cells in containers: their images, built with BuildKit, and runs of them that can touch nothing but their report.

Docker's SDK builds with the engine's older builder only, so images are built by ``docker buildx build``. All else
goes through the SDK.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pt2e_ci.cells.cell import CELLS_FILE, PLATFORMS
from pt2e_ci.cells.sources import SETTING, Sources, host_sources
from pt2e_ci.errors import InputError, one_line
from pt2e_ci.record.report import check_writable, keep_report, read_report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import docker
    from docker.models.containers import Container

    from pt2e_ci.cells.cell import Cell

CONTAINER_LABEL = "org.pytorch.pt2e-ci.run"
_REPOSITORY = "pt2e-ci"
_LAST_LINES = 40
# What the suite writes beside its report: what workers tell.
_SCRATCH_SIZE = "1g"
_KILLED = 137
_PROCESSES = 512


@dataclass(frozen=True)
class Image:
    """The image of a cell for a platform such as ``linux/arm64``."""

    cell: Cell
    platform: str

    @property
    def tag(self) -> str:
        """The image's name, one for each platform, for not every image store keeps several under one."""
        return f"{_REPOSITORY}:{self.cell.name}-{self.platform.partition('/')[2]}"

    @property
    def cell_ids(self) -> list[str]:
        """The ids that the cell's report may have: one for each Python that the image's base may have."""
        return [self.cell.on(python).id(PLATFORMS[self.platform]) for python in self.cell.pythons]


@dataclass(frozen=True)
class Limits:
    """What a container may use: memory, as the engine writes it (4g), and seconds."""

    memory: str
    seconds: float


def connect() -> docker.DockerClient:
    """Return a client of the engine that the docker command uses: by DOCKER_HOST, its context, or the default socket.

    Raises:
        InputError: Docker's SDK is not installed, the socket may not be used, or no engine answers.

    """
    try:
        import docker
        from docker.context import ContextAPI
    except ImportError:
        raise InputError("Docker's SDK is not installed: pip install 'pt2e-ci[image]'") from None
    where = os.environ.get("DOCKER_HOST")
    try:
        if where:
            client = docker.from_env()
        else:
            context = ContextAPI.get_current_context()
            where = context.Host
            client = docker.DockerClient(base_url=where, tls=context.TLSConfig or False)
        client.ping()
    except (docker.errors.DockerException, OSError, ValueError) as error:
        if "Permission denied" in str(error):
            raise InputError(
                "no permission to use Docker's socket: add this user to the group docker, or use sudo"
            ) from None
        raise InputError(
            f"no Docker engine answers at {where or 'its context'}: start it (systemctl start docker), or set"
            " DOCKER_HOST"
        ) from None
    return client


@contextlib.contextmanager
def _engine_works(what: str) -> Iterator[None]:
    """Turn what the engine, or the way to it, fails with into one line on `what`."""
    import docker
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except docker.errors.APIError as error:
        raise InputError(f"{what}: {one_line(error.explanation or error)}") from None
    except (docker.errors.DockerException, RequestException, HTTPError, OSError) as error:
        raise InputError(f"{what}: {one_line(error)}") from None


def native_platform(client: docker.DockerClient) -> str:
    """Return the engine's own platform."""
    with _engine_works("the engine does not say what it is"):
        version = client.version()
    return f"{version['Os']}/{version['Arch']}"


def build(images: Sequence[Image], root: Path, base: str | None = None) -> None:
    """Build images from the checkout at `root`, each under its tag; `base` takes the place of each cell's own.

    Raises:
        InputError: there is no Dockerfile, no docker, or a build failed.

    """
    if not is_checkout(root):
        raise InputError(f"{root} is not a checkout of pt2e-ci, which images are built from: change to one")
    for image in images:
        _build(image, root, base or image.cell.base)


def is_checkout(root: Path) -> bool:
    """Tell whether a folder is a checkout of this project: another's Dockerfile builds something else."""
    return (root / "Dockerfile").is_file() and (root / "pt2e_ci" / "cells" / CELLS_FILE.name).is_file()


def _build(image: Image, root: Path, base: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="pt2e-ci-build-") as folder:
        command = build_command(image, root, base, Path(folder))
        if shutil.which(command[0]) is None:
            raise InputError("the docker command is not on PATH: install docker-cli and docker-buildx")
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - docker, with arguments of our own
            raise InputError(
                f"the image {image.tag} could not be built: docker has said why, above (for another architecture, set"
                " up qemu: docker run --privileged --rm tonistiigi/binfmt --install all)"
            )


def build_command(image: Image, root: Path, base: str | None, folder: Path) -> list[str]:
    """Return the command that builds an image; `folder` takes what it needs of this host's sources."""
    arguments = {"TORCH": image.cell.name, "BASE": base, **_provenance(root)}
    given = [f"--build-arg={name}={value}" for name, value in arguments.items() if value]
    # The address of an index may hold a password, and an image tells with which arguments it was built.
    given += [f"--secret=id=torch-index,env={SETTING}"] if os.environ.get(SETTING) else []
    command = ["docker", "buildx", "build", "--load", f"--platform={image.platform}"]
    return [*command, f"--tag={image.tag}", *given, *_sources_of(image, host_sources(), folder), str(root)]


def _provenance(root: Path) -> dict[str, str]:
    """Say what a checkout is, in build arguments; nothing for a folder that is no checkout."""

    def git(*arguments: str) -> str:
        try:
            command = ["git", "-C", str(root), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError:
            return ""
        return done.stdout.strip()

    return {
        "SOURCE": git("config", "--get", "remote.origin.url"),
        "REVISION": git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct"),
    }


def _sources_of(image: Image, sources: Sources, folder: Path) -> list[str]:
    """Return what gives a build this host's sources: its own wheels of the cell's torch, and pip's settings."""
    arguments: list[str] = []
    wheels, settings = folder / "wheels", folder / "pip.conf"
    wheels.mkdir()
    machine = PLATFORMS[image.platform].partition("_")[2]
    for source in sources.find_links:
        for wheel in Path(source).glob(f"torch-{image.cell.torch}*{machine}.whl"):
            try:
                (wheels / wheel.name).hardlink_to(wheel.resolve())
            except OSError:  # on another disk, or not ours
                shutil.copy2(wheel, wheels)
    if any(wheels.iterdir()):
        arguments += ["--build-context", f"wheels={wheels}"]
    # What lies on this host's disk is not there in a build.
    options = {
        "index-url": [sources.index or ""],
        "extra-index-url": [address for address in sources.extra if "://" in address],
        "find-links": [address for address in sources.find_links if "://" in address],
    }
    remote = {
        name: [address for address in addresses if address and not address.startswith("file:")]
        for name, addresses in options.items()
    }
    if any(remote.values()):
        lines = [f"{name} = {' '.join(addresses)}\n" for name, addresses in remote.items() if addresses]
        settings.write_text("[global]\n" + "".join(lines), encoding="utf-8")
        arguments += ["--secret", f"id=pip,src={settings}"]
    if sources.certificate and Path(sources.certificate).is_file():
        arguments += ["--secret", f"id=ca,src={sources.certificate}"]
    return arguments


def run(client: docker.DockerClient, image: Image, arguments: Sequence[str], folder: Path, limits: Limits) -> int:
    """Run the suite in a container of an image, and put its report into `folder`; return its exit code.

    The report of a run that was stopped goes beside the report's name, as without a container.
    The container has no network, no capability, and a root that is read-only; it is removed however the run ends.
    What it prints goes to standard error as it comes. `arguments` are those of ``pt2e-ci run``.

    Raises:
        InputError: the image is missing, or the container could not start, was killed, ran out of memory or time,
            or left no report of the image's cell.

    """
    import docker

    check_writable(folder / f"{image.cell_ids[0]}.jsonl")
    build_it = f"pt2e-ci image build --torch {image.cell.name} --platform {image.platform}"
    with _engine_works(f"{image.tag} cannot run"):
        try:
            container = client.containers.create(
                image.tag,
                [*arguments, "--report", "-"],
                platform=image.platform,
                environment=_passed(os.environ),
                labels={CONTAINER_LABEL: image.cell.name},
                network_mode="none",
                read_only=True,
                tmpfs={"/tmp": f"size={_SCRATCH_SIZE},mode=1777"},  # noqa: S108 - in the container
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                mem_limit=limits.memory,
                memswap_limit=limits.memory,
                pids_limit=_PROCESSES,
            )
        except docker.errors.ImageNotFound:
            raise InputError(f"there is no image {image.tag}: build it with `{build_it}`") from None
        try:
            return _attend(container, image, folder, limits)
        finally:
            _remove(container)


def _remove(container: Container) -> None:
    """Remove a container. An engine that cannot, or has done so, takes nothing from the run that was."""
    with contextlib.suppress(InputError), _engine_works("the container cannot be removed"):
        container.remove(force=True)


def _passed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that reach the suite in a container, too: how many workers, and how long a case may take."""
    names = ("PYTEST_XDIST_AUTO_NUM_WORKERS", "PYTEST_TIMEOUT")
    return {name: environment[name] for name in names if name in environment}


def _attend(container: Container, image: Image, folder: Path, limits: Limits) -> int:
    """Start a container, hand its output on until it ends, and keep its report."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(InputError), _engine_works("the container cannot be stopped"):
            container.kill()

    timer = threading.Timer(limits.seconds, end)
    stream = container.attach(stdout=True, stderr=True, stream=True, demux=True)
    said: deque[str] = deque(maxlen=_LAST_LINES)
    with tempfile.TemporaryDirectory(prefix="pt2e-ci-") as scratch:
        part = Path(scratch, "report.jsonl")
        try:
            container.start()
            timer.start()
            with part.open("wb") as file:
                for output, aside in stream:
                    file.write(output or b"")
                    if aside:
                        said.append(aside.decode(errors="replace"))
                        sys.stderr.write(said[-1])
                        sys.stderr.flush()
        finally:
            timer.cancel()
        code = int(container.wait()["StatusCode"])
        container.reload()
        if problem := _problem(code, container.attrs["State"], "".join(said), late.is_set(), limits):
            raise InputError(f"{image.tag} {problem}")
        if code == 2 and not part.stat().st_size:  # bad input, of which it has said what is wrong
            return code
        try:
            given = read_report(part)
        except InputError as error:
            words = str(error).replace(str(part), "its output")
            raise InputError(f"{image.tag} ended with exit code {code} and no report: {words}") from None
    if given.run.cell not in image.cell_ids:
        raise InputError(f"{image.tag} holds {given.run.cell}, not {image.cell_ids[0]}: build it again")
    sys.stderr.write(f"report: {keep_report(folder / (given.run.cell + '.jsonl'), given)}\n")
    return code


def _problem(code: int, state: Mapping[str, Any], said: str, late: bool, limits: Limits) -> str | None:
    """Say why a container's run does not count, if it does not."""
    if late:
        return f"was stopped after {limits.seconds / 60:g} minutes: allow more by --minutes"
    if state["OOMKilled"]:
        return f"ran out of memory at {limits.memory}: allow more by --memory"
    if code == _KILLED:
        return "was killed from outside"
    if "exec format error" in said:
        return "is for another architecture, which this engine cannot emulate: set up qemu"
    return None
