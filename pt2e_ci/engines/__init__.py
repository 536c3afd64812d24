"""The machine's engines: each runs the same quantized operators on the same levels.

An engine is `engines.protocol.Engine`, and comes by an entry point of ``pt2e_ci.engines``; `measuring` holds what it
gives against the exact result.
"""
