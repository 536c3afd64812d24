"""The operators that are known: a file for each kind, a row for each operator.

A row has an operator's names, its exact form on real numbers, its form in the integer representation, and the name of
the rule that decides it. `rows` finds the row of whatever a node calls.
"""
