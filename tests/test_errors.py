"""One line for what went wrong."""

from __future__ import annotations

from pt2e_ci.errors import InputError, one_line


def test_place_in_torchs_source_is_left_out():
    text = 'op.is_output INTERNAL ASSERT FAILED at "../A.cpp":349, please report a bug to PyTorch. No tensor!\nmore'
    assert one_line(RuntimeError(text)) == "RuntimeError: op.is_output INTERNAL ASSERT FAILED: No tensor!"


def test_length_is_bounded():
    assert one_line(ValueError("x" * 1000), 20) == "ValueError: xxxxxxx\N{HORIZONTAL ELLIPSIS}"
    assert one_line(ValueError()) == "ValueError"


def test_text_that_is_none_can_be_written():
    assert one_line(FileNotFoundError("caf\udce9")) == "FileNotFoundError: caf?"


def test_bad_input_is_one_line_whatever_it_quotes():
    assert str(InputError("no 'a\nb\x1b[31m' here")) == "no 'a b\N{REPLACEMENT CHARACTER}[31m' here"
