"""What is run: models by operator family, with their inputs and what each of them claims.

`catalogue` is plain data and imports no torch; `models` and `inputs` turn a row of it into modules and tensors.
"""
