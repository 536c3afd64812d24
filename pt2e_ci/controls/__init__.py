"""Representations that test the checks: `integer` is right and must pass, `faults` are wrong and must not."""
