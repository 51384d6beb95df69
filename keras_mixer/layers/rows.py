"""Channels as the rows of one matrix, so that a product over channels is one 2-D matrix product.

Every backend and runtime runs those at the speed of its matrix product, with bias and activation fused.
"""

from keras import ops


def as_rows(inputs):
    """Reshapes `(batch, ..., channels)` to `(n, channels)`."""
    return inputs if len(inputs.shape) == 2 else ops.reshape(inputs, (-1, inputs.shape[-1]))


def like(inputs, rows):
    """Reshapes `(n, channels)` to the leading axes of `inputs`, any of which may be known only at run time."""
    if len(inputs.shape) == 2:
        return rows
    # One unknown length goes without being asked for, which spares an exported graph the operations on shapes.
    lengths = [-1, *inputs.shape[1:-1]]
    if None in lengths:
        lengths = list(ops.shape(inputs)[:-1])
    return ops.reshape(rows, (*lengths, rows.shape[-1]))
