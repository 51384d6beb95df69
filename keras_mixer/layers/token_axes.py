"""What each axis of a weight over tokens stands for: change of resolution and permutation read it from the layers.

A layer whose weights depend on the number of tokens offers the first two attributes, one that mixes along rows or
columns of a map the third; every other layer needs none of this.

- `token_axes`: relative name of each such weight -> the role of each of its axes, one of the constants below.
- `hidden_arguments`: names of the constructor's arguments that count `HIDDEN` units, which grow with the image when
  each part of it gets hidden units of its own.
- `line_axes`: relative name of each weight over a line, a row or a column of the map -> the channels that each of its
  places has there. Both of the weight's axes, the line that is read and the one that is written, list place by place.
"""

TOKENS_IN = "tokens_in"  # one entry per token that is read: a map over the image, summed over
TOKENS_OUT = "tokens_out"  # one entry per token that is written
HIDDEN = "hidden"  # one entry per hidden unit of an MLP over tokens
OTHER = "other"  # anything else, as one entry per channel

TokenAxes = dict[str, tuple[str, ...]]
LineAxes = dict[str, int]
