"""A file that a command draws at its end; whether it can is checked before it starts."""

import os
import pathlib

import click


class PictureFile(click.Path):
    """An option's path with one of some suffixes."""

    def __init__(self, *suffixes: str):
        super().__init__(dir_okay=False, writable=True)
        self.suffixes = suffixes

    def convert(self, value, param, ctx):
        """Returns the path as it was given.

        Raises:
            click.BadParameter: If it ends in another suffix, or cannot be written.
        """
        path = os.fsdecode(super().convert(value, param, ctx))
        if pathlib.Path(path).suffix not in self.suffixes:
            *most, last = self.suffixes
            self.fail(f"it is written as {', '.join(most)} or {last}, but got {path}", param, ctx)
        folder = next(parent for parent in pathlib.Path(os.path.abspath(path)).parents if os.path.lexists(parent))
        if not folder.is_dir():
            self.fail(f"{path} cannot be written: {folder} is not a folder", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: no permission to write to {folder}", param, ctx)
        return path
