"""Where the exact representation was; `pt2e_ci.flow.exact` has it."""

from pt2e_ci.flow.exact import representation as integer_representation

__all__ = ["integer_representation"]
