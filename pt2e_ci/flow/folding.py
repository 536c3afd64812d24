"""Constant weights, quantized ahead: what ``fold_quantize=True`` does where convert has no such option (2.1)."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.fx import GraphModule


def fold_quantized_constants(program: GraphModule) -> GraphModule:
    """Replace each quantize node whose tensors are all attributes of the program by its value, in place."""
    quantize = torch.ops.quantized_decomposed
    targets = (quantize.quantize_per_tensor.default, quantize.quantize_per_channel.default)
    for node in list(program.graph.nodes):
        if node.target not in targets or any(source.op != "get_attr" for source in node.all_input_nodes):
            continue
        args = [attrgetter(arg.target)(program) if hasattr(arg, "target") else arg for arg in node.args]
        name = f"_folded_{node.name}"
        with torch.no_grad():
            program.register_buffer(name, node.target(*args))
        with program.graph.inserting_before(node):
            node.replace_all_uses_with(program.graph.get_attr(name))
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program
