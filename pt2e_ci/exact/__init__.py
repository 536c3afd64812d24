"""The truth: what a Q/DQ program gives in real-number arithmetic.

`reals` holds exact tensors, `rounding` takes them to integer levels, `arithmetic` is the operators on them, and
`oracle` runs a program on them.
"""
