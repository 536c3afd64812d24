"""The report of a run, in JSON Lines, and the views of it. Nothing here imports torch."""
