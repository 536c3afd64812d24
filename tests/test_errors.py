"""One line for what went wrong."""

from __future__ import annotations

from pt2e_ci.errors import one_line


def test_place_in_torchs_source_is_left_out():
    text = 'op.is_output INTERNAL ASSERT FAILED at "../A.cpp":349, please report a bug to PyTorch. No tensor!\nmore'
    assert one_line(RuntimeError(text)) == "RuntimeError: op.is_output INTERNAL ASSERT FAILED: No tensor!"


def test_length_is_bounded():
    assert one_line(ValueError("x" * 1000), 20) == "ValueError: xxxxxxx\N{HORIZONTAL ELLIPSIS}"
    assert one_line(ValueError()) == "ValueError"
