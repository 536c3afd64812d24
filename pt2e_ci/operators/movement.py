"""Operators that only move values, that cast them, and that take no more than a shape."""

from __future__ import annotations

from pt2e_ci.operators.row import Kind, Row, Rule, plain

# What gives a view moves values, and torch's schemas say so (`rows.row_of`); these give a copy, or are Python's own.
_COPIES = "_unsafe_view clone flip roll repeat tile getitem index_select pixel_shuffle pixel_unshuffle channel_shuffle"

ROWS = (
    *plain(Kind.NEUTRAL, _COPIES, moves=True, on_input_grid=True, rule=Rule.MOVEMENT),
    *plain(Kind.NEUTRAL, "index", on_input_grid=True, rule=Rule.MOVEMENT),
    *plain(Kind.NEUTRAL, "dropout lift_fresh_copy", leaves=True, on_input_grid=True),
    *plain(Kind.NEUTRAL, "to _to_copy", leaves=True, on_input_grid=True),
    *plain(Kind.NEUTRAL, "_assert_tensor_metadata", leaves=True),
    *plain(
        Kind.NEUTRAL,
        """gather pad constant_pad_nd unfold im2col as_strided type float double half bfloat16 int long short char
        type_as feature_dropout getattr _assert_async _guards_fn""",
    ),
    *plain(
        Kind.CONSTANT,
        """zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty size sym_size dim numel
        stride device dtype""",
    ),
)
VIEW = Row(("view",), Kind.NEUTRAL, moves=True, on_input_grid=True, rule=Rule.MOVEMENT)
"""What is known of every operator that gives a view."""
