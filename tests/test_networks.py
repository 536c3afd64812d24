"""Networks that people ship: judged whole, known by their operators, and told in one table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import flow
from made import case, report, run

from pt2e_ci.catalogue.cases import DEPLOYED
from pt2e_ci.flow.exact import representation
from pt2e_ci.pipeline import run_case
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import Kind
from pt2e_ci.views.networks import COLUMNS, markdown


@pytest.mark.parametrize("name", ["transformer_block", "unet"])
def test_the_exact_representation_is_proved_on_networks(name):
    (network,) = [one for one in DEPLOYED if one.name == name]
    found, traceback = run_case(network, replace(flow(), representation=representation), 0)
    assert found.outcome is Outcome.PASS, traceback or found.reason
    marked = [one for one in found.operators if one.verdict is not None]
    assert len(marked) == len(network.criteria.annotated)
    assert {(one.verdict, one.evidence.kind) for one in marked} == {("integer", Kind.PROVED)}


def test_table_of_networks():
    proved = {"kind": "proved", "domain": "levels", "values": 256}
    off = {"max": 1, "mean": 0.0, "differing": 0.5}
    operators = [
        {
            "name": "conv2d",
            "node": "conv2d",
            "levels": "q",
            "verdict": "float",
            "source": "net.py:41",
            "module": "stem",
        },
        {"name": "linear", "node": "linear", "levels": "p", "verdict": "integer", "reference": off, "evidence": proved},
        {"name": "gelu", "node": "gelu", "levels": None},
    ]
    seconds = {"export": 1.25, "convert": 0.5, "run": 2.0}
    old = [
        report(
            case("net", "float", operators=operators, seconds=seconds | {"run": taken}),
            run=run(torch=torch, cell=torch),
        )
        for torch, taken in (("2.4", 2.0), ("2.13", 8.0))
    ]
    worse = report(case("net", "float", operators=operators[:1], seconds=seconds), run=run(torch="2.1", cell="2.1"))
    exact = report(case("net", operators=[], seconds=seconds), run=run(representation="exact"))
    table = [line.strip("| ").split(" | ") for line in markdown([exact, *old, worse]).splitlines()[2:]]
    assert table[0] == list(COLUMNS)
    (alone, merged, last) = table[2:]
    assert merged[1:9] == ["upstream", "float", "2", "1", "1", "conv2d stem net.py:41", "1", ""]
    assert merged[9:] == ["2.4, 2.13", "1.8", "2\N{EN DASH}8"]
    assert alone[9:] == ["2.1", "1.8", "2"]
    assert (last[1], last[9]) == ("exact", "all")
