"""The verdict on a reference program: what it computes with, how far it is from the exact result, and the rules.

`verdict` runs both programs, `structure`, `exactness` and `numerics` measure, and `rules` says what follows.
"""
