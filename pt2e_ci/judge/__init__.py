"""The verdict on a reference program: what it computes with, how far it is from the exact result, and the rules.

`verdict` runs both programs; `alignment` finds the levels of the one in the other, `provenance` and `observation` say
what each operator computes with, `exactness` and `numerics` how far it is from right, `conduct` what else the program
does, `cost` what quantization costs; and `rules` says what follows.
"""
