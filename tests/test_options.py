"""What the suite makes of its options."""

from __future__ import annotations

import os

import pytest

from pt2e_ci.suite import options


@pytest.mark.parametrize(
    ("cores", "cases", "told", "workers"),
    [
        (1, 100, None, 1),
        (2, 100, None, 2),
        (64, 100, None, 4),
        (64, 1, None, 1),
        (64, 6, None, 2),
        (2, 1, "3", 3),
        (2, 100, "many", 2),
    ],
)
def test_workers(monkeypatch, cores, cases, told, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(cores))
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    if told:
        monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", told)
    assert options._workers(cases) == workers
