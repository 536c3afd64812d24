"""Where torch comes from: PyTorch's CPU index where it answers, the host's own index elsewhere.

As a command, ``python -m pt2e_ci.cells.sources pip install ...`` runs pip with these sources; the Dockerfile does so.

The host's own settings are pip's: its configuration files and PIP_ variables. uv reads neither, so they are
passed on to it. Nothing here imports torch, for this runs before there is one.
"""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

from pt2e_ci.errors import InputError

SETTING = "PT2E_CI_TORCH_INDEX"
"""The variable that overrides the choice: ``cpu``, ``host``, or the address of an index."""

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NIGHTLY_INDEX = "https://download.pytorch.org/whl/nightly/cpu"
_ANSWER_SECONDS = 5


@dataclass(frozen=True)
class Sources:
    """Where packages are taken from, in pip's words."""

    index: str | None = None
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    certificate: str | None = None

    def pip_environment(self) -> dict[str, str]:
        """Return the variables that make pip use these sources, beside what it reads itself."""
        return {"PIP_EXTRA_INDEX_URL": " ".join(self.extra)} if self.extra else {}

    def uv_environment(self) -> dict[str, str]:
        """Return the variables that make uv use these sources as pip does: the best version of all of them."""
        variables = {
            "UV_DEFAULT_INDEX": self.index or "",
            "UV_INDEX": " ".join(self.extra),
            "UV_FIND_LINKS": ",".join(self.find_links),
            "SSL_CERT_FILE": self.certificate or "",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }
        return {name: value for name, value in variables.items() if value}

    def uv_arguments(self) -> tuple[str, ...]:
        """Return the arguments to `uv pip install` for what has no variable."""
        return ("--no-index",) if self.no_index else ()


def host_sources() -> Sources:
    """Return the sources that pip is set to use on this host, joined with those that uv is set to use."""
    settings = _pip_settings()

    def listed(name: str) -> tuple[str, ...]:
        return tuple(settings.get(name, "").split())

    return Sources(
        index=os.environ.get("UV_DEFAULT_INDEX") or settings.get("index-url") or None,
        extra=_joined(os.environ.get("UV_INDEX", "").split(), listed("extra-index-url")),
        find_links=_joined(os.environ.get("UV_FIND_LINKS", "").split(","), listed("find-links")),
        no_index=settings.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        certificate=os.environ.get("SSL_CERT_FILE") or settings.get("cert") or None,
    )


def torch_sources(host: Sources | None = None) -> tuple[Sources, str]:
    """Return the sources to install torch from, and a sentence that says which they are and why.

    Raises:
        InputError: the setting has a value that means nothing.

    """
    host = host or host_sources()
    choice = os.environ.get(SETTING, "").strip()
    if choice == "host":
        return host, f"torch from this host's own index ({SETTING}=host)"
    if choice and choice != "cpu":
        if "://" not in choice:
            raise InputError(f"{SETTING}={choice!r} is neither cpu, host, nor the address of an index")
        return _with(host, choice), f"torch from {choice} ({SETTING})"
    if choice == "cpu":
        return _with(host, CPU_INDEX), f"torch from PyTorch's CPU index ({SETTING}=cpu)"
    if not host.no_index and _answers(CPU_INDEX):
        return _with(host, CPU_INDEX), f"torch from PyTorch's CPU index; {SETTING} overrides"
    return host, (
        f"torch from this host's own index, for PyTorch's CPU index does not answer; {SETTING} overrides"
        " (on x86-64, a public index has the CUDA build, of several GB)"
    )


def _with(host: Sources, index: str) -> Sources:
    return replace(host, extra=_joined([index], host.extra))


def _joined(*lists: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Join lists of addresses, each address once."""
    return tuple(dict.fromkeys(address for addresses in lists for address in addresses if address))


def _answers(index: str) -> bool:
    request = urllib.request.Request(f"{index}/torch/", method="HEAD")  # noqa: S310 - a constant of this module
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _pip_settings() -> dict[str, str]:
    """Return pip's settings by option: of its files, the later outranking, and of its variables, which outrank them.

    Read here and not asked of pip, for a host may have none: uvx brings none, and Debian has it apart.
    """
    files = configparser.RawConfigParser(strict=False)
    try:
        files.read(_pip_files(), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"pip's settings cannot be read: {' '.join(str(error).split())}") from None
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if files.has_section(section):
            settings |= {name.replace("_", "-"): value for name, value in files.items(section)}
    variables = {name.removeprefix("PIP_"): value for name, value in os.environ.items() if name.startswith("PIP_")}
    return settings | {name.lower().replace("_", "-"): value for name, value in variables.items() if value}


def _pip_files() -> list[Path]:
    """Return where pip looks for its settings, in its order: the system's, the user's, the environment's, the named."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    system = [Path(folder, "pip", "pip.conf") for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    own = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "pip", "pip.conf")
    found = [*system, Path("/etc/pip.conf"), Path("~/.pip/pip.conf"), own, Path(sys.prefix, "pip.conf")]
    found += [Path(named)] if named else []
    # Unlike the method of a path, this is no error for a user without a home.
    return [Path(os.path.expanduser(str(path))) for path in found]  # noqa: PTH111


if __name__ == "__main__":
    try:
        _sources, _note = torch_sources()
    except InputError as _error:
        sys.exit(f"pt2e-ci: error: {_error}")
    sys.stderr.write(f"{_note}\n")
    sys.exit(subprocess.run(sys.argv[1:], env=os.environ | _sources.pip_environment(), check=False).returncode)  # noqa: S603
