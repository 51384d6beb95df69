"""A number above 0 that is one: `nan` and `inf` are numbers to Click."""

import math

import click


class PositiveNumber(click.FloatRange):
    """An option's finite number above 0."""

    def __init__(self):
        super().__init__(min=0, min_open=True)

    def convert(self, value, param, ctx):
        """Returns the number.

        Raises:
            click.BadParameter: If it is none, not finite, or not above 0.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number
