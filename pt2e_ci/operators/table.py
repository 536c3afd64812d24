"""Functions of one value, or of a row of them, that have no exact form here."""

from __future__ import annotations

from pt2e_ci.operators.row import Kind, Rule, plain

ROWS = (
    *plain(
        Kind.ACTIVATION,
        "relu6 leaky_relu prelu hardswish hardsigmoid sigmoid tanh gelu elu silu",
        rule=Rule.VALUES,
    ),
    *plain(Kind.ACTIVATION, "softmax _softmax log_softmax"),
)
