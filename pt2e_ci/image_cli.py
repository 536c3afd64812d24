"""The ``pt2e-ci image`` commands. What they need beside click is imported where they run."""

from __future__ import annotations

import math
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pt2e_ci.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pt2e_ci.image import Image, Limits

_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_MOST_MINUTES = 7 * 24 * 60
_LEAST_MEMORY = 6 * 2**20


class _Memory(click.ParamType[int]):
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+)([bkmg])", str(value).lower())
        if not match:
            self.fail(f"{value!r} is no size: give a number and b, k, m or g, as 4g", param, ctx)
        size = int(match[1]) * _UNITS[match[2]]
        if size < _LEAST_MEMORY:
            self.fail(f"{value!r} is less than an engine gives a container: give 6m or more", param, ctx)
        return size


class _Minutes(click.FloatRange):
    name = "MINUTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        minutes = float(super().convert(value, param, ctx))
        if not math.isfinite(minutes):
            self.fail(f"{value!r} is no time that ends", param, ctx)
        return minutes


_torch = click.option(
    "--torch", required=True, metavar="CELLS", help="Cells, by the names that `pt2e-ci cells` lists; by commas."
)
_platform = click.option(
    "--platform", metavar="PLATFORMS", help="linux/amd64, linux/arm64, or both by a comma (default: the engine's own)."
)
_base = click.option("--base", metavar="IMAGE", help="The image to build on, by tag or digest.")
_reports = click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    help="Where reports go.",
    show_default=True,
)


def _limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that limit a container."""
    for option in (
        click.option("--memory", type=_Memory(), default="4g", help="Memory of a container.", show_default=True),
        click.option(
            "--processes",
            type=click.IntRange(min=16),
            default=512,
            help="Processes and threads of a container.",
            show_default=True,
        ),
        click.option(
            "--minutes",
            type=_Minutes(min=0, max=_MOST_MINUTES, min_open=True),
            default=60.0,
            help="Time limit.",
            show_default=True,
        ),
    ):
        command = option(command)
    return command


@click.group()
def image() -> None:
    """Build and run cells as container images, on x86-64 and arm64."""
    # What ends a CI job should remove its containers, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@image.command()
@_torch
@_platform
@_base
def build(torch: str, platform: str | None, base: str | None) -> None:
    """Build images from a checkout, through docker buildx."""
    from pt2e_ci.image import build as build_images
    from pt2e_ci.image import connect

    client = connect()  # without an engine nothing is built, and it says so best
    build_images(_images(torch, platform or _native(client)), Path.cwd(), base)


@image.command(context_settings={"ignore_unknown_options": True})
@_torch
@_platform
@_reports
@_limits
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(torch: str, platform: str | None, reports: Path, arguments: tuple[str, ...], **limits: Any) -> None:
    """Run the suite in a container that reaches nothing; ARGUMENTS are those of `pt2e-ci run`.

    Exits as the suite does, and with 2 if the container could not run it to its end.
    """
    from pt2e_ci.image import connect
    from pt2e_ci.image import run as run_image

    client = connect()
    images = _images(torch, platform or _native(client))
    if len(images) > 1:
        raise InputError("one cell and one platform at a time: `pt2e-ci image matrix` runs several")
    sys.exit(run_image(client, images[0], arguments, reports, _made(limits)))


@image.command()
@_torch
@_platform
@_base
@_reports
@_limits
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Containers at once (default: as cores, memory allow).")
@click.option("--arguments", default="", help="Options for each cell's suite, in one string, as a shell reads them.")
def matrix(
    torch: str,
    platform: str | None,
    base: str | None,
    reports: Path,
    jobs: int | None,
    arguments: str,
    **limits: Any,
) -> None:
    """Run several cells and platforms, a few at a time, and print the merged table.

    In a checkout the images are built first; elsewhere they must be there.
    """
    from pt2e_ci.image import build as build_images
    from pt2e_ci.image import connect, is_checkout, plan
    from pt2e_ci.matrix import arguments_in

    client = connect()
    images = _images(torch, platform or _native(client))
    given = arguments_in(arguments)
    if is_checkout(Path.cwd()):
        build_images(images, Path.cwd(), base)
    sys.exit(plan(images, reports, given, jobs, _made(limits)).run())


@image.command(name="list")
def list_() -> None:
    """List the images of each cell and platform, and which are here."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pt2e_ci.cells import PLATFORMS, load_cells
    from pt2e_ci.image import Image, connect, here
    from pt2e_ci.reports.table import width

    client = connect()
    native = _native(client)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("Image", "Platform", "Here", "Revision"):
        table.add_column(title, no_wrap=True)
    for cell in load_cells().cells:
        for platform in PLATFORMS:
            one = Image(cell, platform)
            found = here(client, one)
            runs = platform if platform == native else f"{platform}, emulated"
            table.add_row(one.tag, runs, "yes" if found else "no", (found or {}).get("revision", ""))
    Console(width=width(), highlight=False).print(table)


def _native(client: Any) -> str:
    from pt2e_ci.image import native_platform

    return native_platform(client)


def _images(torch: str, platform: str) -> list[Image]:
    from pt2e_ci.cells import load_cells, names_in, platforms
    from pt2e_ci.image import Image

    named = platforms(platform)
    return [Image(cell, name) for cell in load_cells().select(names_in(torch, "--torch")) for name in named]


def _made(limits: dict[str, Any]) -> Limits:
    from pt2e_ci.image import Limits

    return Limits(limits["memory"], limits["processes"], limits["minutes"] * 60)
