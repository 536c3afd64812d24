"""The verifier that shares no code: it finds the digests of what was proved, and no others."""

from __future__ import annotations

import random
import subprocess
import sys
from fractions import Fraction

import pytest
from conftest import converted
from msgspec.structs import replace

from pt2e_ci.catalogue.cases import CASES, select_cases
from pt2e_ci.exact.boundaries import beginnings
from pt2e_ci.exact.levels import beginnings_of
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.flow.exact import representation
from pt2e_ci.judge.verdict import judge
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import Verdict
from pt2e_ci.record.report import write_report
from pt2e_ci.record.verifier import complaints, first_at, rounded, verify

# With the other tests that convert every case, in the one worker that does.
pytestmark = pytest.mark.xdist_group("cases")


def judged(name):
    (case,) = select_cases([name])
    qdq, sets = converted(case)
    return judge(qdq, representation(qdq), sets, case.criteria).case


@pytest.mark.parametrize("case", [case for case in CASES if case.name != "same_conv2d"], ids=lambda case: case.name)
def test_what_was_proved_is_found_again(case):
    found = judged(case.name)
    assert verify(found) == []
    decided = [one.evidence for one in found.operators if one.evidence.domain in ("accumulators", "pairs of levels")]
    assert all(one.rescale or one.pairs for one in decided if one.kind == "proved")


@pytest.mark.parametrize("name", ["linear_per_channel", "add", "cat_three"])
def test_another_boundary_or_pair_is_not_found(name):
    found = judged(name)
    evidence = next(one.evidence for one in found.operators if one.evidence.rescale or one.evidence.pairs)
    assert [*complaints(evidence)] == []
    if rescale := evidence.rescale:
        other = replace(rescale, units=[str(Fraction(rescale.units[0]) * Fraction(1001, 1000)), *rescale.units[1:]])
        assert [*complaints(replace(evidence, rescale=other))]
        assert [*complaints(replace(evidence, rescale=replace(rescale, off=[(0, rescale.first + 1, 5)])))]
    else:
        (first, *rest) = evidence.pairs
        other = replace(first, zero_point=first.zero_point + 1)
        assert [*complaints(replace(evidence, pairs=[other, *rest]))]
    assert [*complaints(replace(evidence, wrong=1))]


@pytest.mark.parametrize("scheme", list(Rounding))
def test_boundaries_agree_with_fractions_one_at_a_time(scheme):
    drawn = random.Random(7)
    scale, point = Fraction(3, 64), -5
    turns = [scheme.begins(steps, point) for steps in range(-20, 20)]
    affine = [
        (Fraction(drawn.randint(1, 10**6), 2**30), Fraction(drawn.randint(-(10**9), 10**9), 2**20)) for _ in range(20)
    ]
    affine += [(Fraction(3, 128), Fraction(0)), (Fraction(3, 640), Fraction(3, 128))]  # where ties are whole numbers
    found = beginnings_of(turns, scale, affine).tolist()
    assert found == [beginnings(turns, scale, unit, offset) for unit, offset in affine]
    for row, (unit, offset) in zip(found, affine, strict=True):
        for begins, steps in zip(row, range(-20, 20), strict=True):
            assert first_at(steps, point, scheme, scale, unit, offset) == begins
            for number in (begins - 1, begins):
                level = scheme.whole((unit * number + offset) / scale, point)
                assert (level >= steps) == (number >= begins)
                assert rounded((unit * number + offset) / scale, point, scheme) == level


def test_it_needs_no_torch():
    code = "import sys, pt2e_ci.record.verifier; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_whole_report_holds_in_the_command(whole_run, tmp_path):
    write_report(tmp_path / "report.jsonl", whole_run.report)
    line = [sys.executable, "-m", "pt2e_ci", "verify", str(tmp_path / "report.jsonl")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("0 complaints\n")
    assert " 0 of " not in done.stdout


def tampered(found):
    """Yield a case changed in one place each, and what must be said of it."""
    linear, others = found.operators[-1], found.operators[:-1]
    witness = linear.evidence.witness
    assert witness is not None
    yield replace(found, outcome=Outcome.FLOAT), "its reason PQ"
    yield replace(found, outcome=Outcome.PASS, reason=None), "it passes, and an input shows"
    yield replace(found, operators=[*others, replace(linear, verdict=Verdict.FLOAT)]), "of its 1 operators are integer"
    for changed, says in [
        (replace(witness, exact=witness.exact + 1), "is due to be another level"),
        (replace(witness, exact=witness.got), "its input shows nothing"),
    ]:
        evidence = replace(linear.evidence, witness=changed)
        yield replace(found, operators=[*others, replace(linear, evidence=evidence)]), says


def test_report_that_was_tampered_with_is_found_out(whole_run):
    (found,) = [case for case in whole_run.report.cases if case.name == "static_linear"]
    assert verify(found) == []
    for changed, says in tampered(found):
        assert any(says in complaint for complaint in verify(changed)), says
