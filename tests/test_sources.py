"""Where torch is taken from, and how pip's settings reach uv."""

from __future__ import annotations

import os
import subprocess

import pytest

from pt2e_ci.cells import sources
from pt2e_ci.cells.sources import CPU_INDEX, SETTING, Sources, host_sources, torch_sources
from pt2e_ci.errors import InputError

HOST = Sources(index="https://host/simple", extra=("https://extra/simple",), find_links=("/wheels",))


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A host without a setting of its own."""
    for name in os.environ:
        if name.startswith(("PIP_", "UV_", "PT2E_CI_", "SSL_CERT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return monkeypatch


def test_cpu_index_where_it_answers(bare):
    bare.setattr(sources, "_answers", lambda index: True)
    chosen, note = torch_sources(HOST)
    assert chosen.extra == (CPU_INDEX, "https://extra/simple")
    assert "CPU index" in note


def test_own_index_where_it_does_not(bare):
    bare.setattr(sources, "_answers", lambda index: False)
    chosen, note = torch_sources(HOST)
    assert chosen == HOST
    assert SETTING in note


def test_host_without_an_index_is_not_sent_to_one(bare):
    bare.setattr(sources, "_answers", lambda index: pytest.fail("asked"))
    chosen, _ = torch_sources(Sources(no_index=True, find_links=("/wheels",)))
    assert chosen.extra == ()


@pytest.mark.parametrize(
    ("value", "extra"),
    [
        ("host", ("https://extra/simple",)),
        ("cpu", (CPU_INDEX, "https://extra/simple")),
        ("https://mine/whl", ("https://mine/whl", "https://extra/simple")),
    ],
)
def test_setting_overrides(bare, value, extra):
    bare.setattr(sources, "_answers", lambda index: pytest.fail("asked"))
    bare.setenv(SETTING, value)
    assert torch_sources(HOST)[0].extra == extra


def test_setting_that_means_nothing(bare):
    bare.setenv(SETTING, "cuda")
    with pytest.raises(InputError, match="'cuda' is neither cpu, host, nor the address"):
        torch_sources(HOST)


def test_pips_files_and_variables_are_read(bare, tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://file/simple\nextra-index-url = file:///a\n  https://b/simple\n"
        "find-links = /one\n"
    )
    bare.setenv("PIP_CONFIG_FILE", str(config))
    bare.setenv("PIP_FIND_LINKS", "/two /three")
    bare.setenv("UV_FIND_LINKS", "/four")
    found = host_sources()
    assert found.index == "https://file/simple"
    assert found.extra == ("file:///a", "https://b/simple")
    assert found.find_links == ("/four", "/two", "/three")


def test_settings_are_read_where_there_is_no_pip(bare, tmp_path):
    """As under uvx: the files are pip's, and in its order."""
    bare.delenv("PIP_CONFIG_FILE")
    for name, text in {
        "xdg/pip/pip.conf": "[global]\nindex-url = https://system/simple\nfind-links = /wheels\n",
        "home/.config/pip/pip.conf": "[global]\nindex-url = https://user/simple\n[install]\nno-index = true\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    bare.setenv("HOME", str(tmp_path / "home"))
    bare.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    bare.setenv("PIP_EXTRA_INDEX_URL", "https://b/simple")
    bare.setattr(subprocess, "run", lambda *a, **k: pytest.fail("asked"))
    found = host_sources()
    assert (found.index, found.find_links, found.no_index) == ("https://user/simple", ("/wheels",), True)
    assert found.extra == ("https://b/simple",)


def test_settings_that_cannot_be_read_are_one_line(bare, tmp_path):
    (tmp_path / "pip.conf").write_text("index-url = https://a\n")
    bare.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    with pytest.raises(InputError, match=r"pip's settings cannot be read: .*pip\.conf"):
        host_sources()


def test_uv_is_told_what_pip_knows():
    assert HOST.uv_environment() == {
        "UV_DEFAULT_INDEX": "https://host/simple",
        "UV_INDEX": "https://extra/simple",
        "UV_FIND_LINKS": "/wheels",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert HOST.uv_arguments() == ()
    assert Sources(no_index=True).uv_arguments() == ("--no-index",)
