"""Golden vectors: quantized operators as integers and rationals, with the exact result under each rounding scheme.

`arithmetic` knows what each computes, `catalogue` and `aiming` which levels tell most, `folder` writes and reads them,
`comparison` judges what anything gave for them. They need numpy, and no torch.
"""
