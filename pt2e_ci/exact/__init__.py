"""Real-number arithmetic: `reals` holds exact tensors, `schemes` rounds, `levels` and `boundaries` take it to integers.

`schemes` and `boundaries` do not import torch.
"""
