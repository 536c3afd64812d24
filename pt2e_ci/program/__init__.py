"""Programs: `trace` is what ran, `segments` the one reading of a Q/DQ program, `oracle` its exact result."""
