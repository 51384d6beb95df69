"""What the command prints and returns when something goes wrong, whichever subcommand it is."""

import errno
import io
import os
import sys

import click
import pytest
import tensorflow as tf
from PIL import Image

from keras_mixer.cli import data
from keras_mixer.cli.main import _run, keras_mixer_command

FULL = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("Two\n  lines."), 2, "Error: Two lines."),
        (OSError(errno.ENOSPC, FULL), 2, f"Error: {FULL}."),
        (OSError(errno.ENOSPC, FULL, "a.txt"), 2, f"Error: a.txt: {FULL}."),
        (OSError(errno.EXDEV, "Not here", "a", None, b"b"), 2, "Error: a -> b: Not here."),
        (OSError("In words."), 2, "Error: In words."),
        (
            tf.errors.ResourceExhaustedError(None, None, f"{{node}} /x/.tempstate1; {FULL} [Op:SaveV2]"),
            2,
            f"Error: {FULL}.",
        ),
        (tf.errors.InternalError(None, None, "Broken."), 1, "Fault (InternalError): Broken."),
        (KeyError(), 1, "Fault (KeyError): KeyError"),
    ],
    ids=str,
)
def test_an_error_is_one_line_without_its_number(monkeypatch, capsys, error, status, line):
    def fails(*_arguments, **_options):
        raise error

    monkeypatch.setattr(data.command, "callback", fails)
    assert _run(["data", "x"]) == status
    assert capsys.readouterr().err.splitlines() == [line]


def test_the_home_of_a_user_who_is_not_there_is_no_fault(capsys):
    assert _run(["data", "~nobody_of_this_name/photographs"]) == 2
    assert "~nobody_of_this_name/photographs is neither a folder" in capsys.readouterr().err


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path, monkeypatch):
    for name, colour in {"café": "brown", "thé": "green"}.items():
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / name / "1.png")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert _run(["data", str(tmp_path)]) == 2  # too few images to train on, which it says after the table
    terminal.flush()
    assert r"caf\xe9" in terminal.buffer.getvalue().decode("ascii")


def commands(command, name):
    yield name, command
    for inner in getattr(command, "commands", None) or getattr(command, "list_commands", lambda _: ())(None):
        yield from commands(command.get_command(None, inner), f"{name} {inner}")


def test_every_option_has_a_help():
    found = dict(commands(keras_mixer_command, "keras-mixer"))
    assert {"keras-mixer weights push", "keras-mixer invariance"} <= found.keys()
    options = [(name, option) for name, command in found.items() for option in command.params]
    assert not [(name, option.name) for name, option in options if isinstance(option, click.Option) and not option.help]
