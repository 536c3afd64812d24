"""The ``pt2e-ci image`` commands. What they need beside click is imported where they run."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pt2e_ci import stops
from pt2e_ci.errors import InputError

if TYPE_CHECKING:
    from pt2e_ci.matrix.image import Image

_MOST_MINUTES = 7 * 24 * 60
_FOLDER = click.Path(path_type=Path, file_okay=False)


class _Minutes(click.FloatRange):
    name = "MINUTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        minutes = float(super().convert(value, param, ctx))
        if not math.isfinite(minutes):
            self.fail(f"{value!r} is not a finite time", param, ctx)
        return minutes


_torch = click.option(
    "--torch", required=True, metavar="CELLS", help="Cells, by the names that `pt2e-ci cells` lists, comma-separated."
)
_platform = click.option(
    "--platform", metavar="PLATFORMS", help="linux/amd64, linux/arm64, or both by a comma (default: the engine's own)."
)
_base = click.option("--base", metavar="IMAGE", help="The image to build on, by tag or digest.")


@click.group()
def image() -> None:
    """Build and run cells as container images, on x86-64 and arm64."""
    # What ends a CI job should remove its containers, as Ctrl-C does.
    stops.listen()


@image.command()
@_torch
@_platform
@_base
def build(torch: str, platform: str | None, base: str | None) -> None:
    """Build images from a checkout, through docker buildx."""
    from pt2e_ci.matrix.image import build as build_images
    from pt2e_ci.matrix.image import connect

    client = connect()  # without an engine nothing is built, and it says so best
    build_images(_images(torch, platform or _native(client)), Path.cwd(), base)


@image.command(context_settings={"ignore_unknown_options": True})
@_torch
@_platform
@click.option("--reports", type=_FOLDER, default=Path("reports"), help="Where reports go.", show_default=True)
@click.option("--memory", metavar="SIZE", default="4g", help="Memory of the container.", show_default=True)
@click.option("--minutes", type=_Minutes(0, _MOST_MINUTES, True), default=60.0, help="Time limit.", show_default=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    torch: str, platform: str | None, reports: Path, memory: str, minutes: float, arguments: tuple[str, ...]
) -> None:
    """Run the suite in a container that reaches nothing; ARGUMENTS are those of `pt2e-ci run`.

    Exits as the suite does, and with 2 if the container could not run it to its end.
    """
    from pt2e_ci.matrix.image import Limits, connect
    from pt2e_ci.matrix.image import run as run_image

    client = connect()
    images = _images(torch, platform or _native(client))
    if len(images) > 1:
        raise InputError("one cell and one platform at a time: name one of each")
    sys.exit(run_image(client, images[0], arguments, reports, Limits(memory, minutes * 60)))


def _native(client: Any) -> str:
    from pt2e_ci.matrix.image import native_platform

    return native_platform(client)


def _images(torch: str, platform: str) -> list[Image]:
    from pt2e_ci.cells.cell import load_cells, names_in, platforms
    from pt2e_ci.matrix.image import Image

    named = platforms(platform)
    return [Image(cell, name) for cell in load_cells().select(names_in(torch, "--torch")) for name in named]
