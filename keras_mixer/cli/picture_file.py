"""A file that a command draws at its end, whose suffix is checked before it starts."""

import os
import pathlib

import click


class PictureFile(click.Path):
    """An option's path with one of some suffixes."""

    def __init__(self, *suffixes: str):
        super().__init__(dir_okay=False)
        self.suffixes = suffixes

    def convert(self, value, param, ctx):
        """Returns the path as it was given.

        Raises:
            click.BadParameter: If it ends in another suffix.
        """
        path = os.fsdecode(super().convert(value, param, ctx))
        if pathlib.Path(path).suffix not in self.suffixes:
            *most, last = self.suffixes
            self.fail(f"it is written as {', '.join(most)} or {last}, but got {path}", param, ctx)
        return path
