"""Adds this torch's patterns to pt2e_ci/flow/patterns.toml; run it in a cell's environment."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial

import torch
from torch.fx import Graph, GraphModule

from pt2e_ci.cells.cell import current_cell
from pt2e_ci.files import read_toml
from pt2e_ci.flow.homes import import_home
from pt2e_ci.flow.patterns import OPERATORS_FILE, exporters_of, families_of, pattern_name, replaced


def write_down(home, path=OPERATORS_FILE):
    """Add this torch's patterns to patterns.toml; of one that is there already, what both have stays.

    The patterns of conv with batch norm are exported in training alone, and stand there by hand.
    """
    found = {}

    def note(exporter, pattern, *args, **kwargs):
        graph = exporter(pattern, *args, **kwargs)
        found.setdefault(pattern_name(pattern), families_of(graph))  # the pattern comes before its replacement
        return graph

    with ExitStack() as stack:
        for name in exporters_of(home.rewrites):
            stack.enter_context(replaced(home.rewrites, name, partial(note, getattr(home.rewrites, name))))
        graph = Graph()
        graph.output(graph.placeholder("x"))
        home.rewrite(GraphModule(torch.nn.Module(), graph))
    known = {name: frozenset(families) for name, families in read_toml(path).items()} if path.exists() else {}
    both = known | {name: families & known.get(name, families) for name, families in found.items()}
    head = path.read_text(encoding="utf-8").partition("\n\n")[0] if path.exists() else ""
    lines = [f"{name} = {json.dumps(sorted(families))}" for name, families in sorted(both.items())]
    path.write_text("\n".join([head, "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    write_down(import_home(current_cell().flow))
