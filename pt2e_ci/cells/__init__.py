"""Cells: every environment that the suite is run in, how it is locked and made, and what a machine can do.

Nothing here imports torch, or needs more than the standard library and packaging.
"""
