"""The command `keras-mixer`. It runs a sub-command and turns errors into one line and an exit status."""

import errno
import importlib
import io
import logging
import os
import sys

import click

# Name -> one line of help. The module `keras_mixer.cli.NAME`, with underscores for dashes, is imported when it runs.
COMMANDS = {
    "data": "Examine a folder of images or a dataset before training.",
    "train": "Train or fine-tune a model by a recipe.",
    "evaluate": "Measure the accuracy of trained models.",
    "predict": "Classify images in files, folders and parquet, here or on a Ray cluster.",
    "export": "Write SavedModel, LiteRT and other artefacts, and measure each.",
    "serve": "Serve models over TF Serving's REST and gRPC, for development.",
    "fewshot": "Probe a model's features with a few images per class.",
    "invariance": "Train architectures on permuted images.",
    "benchmark": "Measure speed and cost, beside the papers' figures.",
    "visualize": "Draw what a model has learned.",
    "weights": "List, download, verify and publish weights.",
    "tpu-check": "Compile a training step for TPUs, without a TPU: memory, FLOPs, largest batch.",
}

BAD_INPUT, FAULT, INTERRUPTED = 2, 1, 130
NO_SPACE = os.strerror(errno.ENOSPC)


class _LazyGroup(click.Group):
    """Lists its sub-commands without importing them."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"keras_mixer.cli.{name.replace('-', '_')}").command

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="keras_mixer")
def keras_mixer_command():
    """MLP-Mixer for Keras: train, evaluate, predict, export, serve.

    Exit status: 0 success, 2 bad usage or bad input, 1 a fault. Set KERAS_MIXER_TRACEBACK=1 to see the traceback of
    every error.
    """
    # TensorFlow's notices do not help a user of the command line, and its errors come as exceptions too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A filter instead of a level, because TensorFlow's converters reset the level.
    logging.getLogger("absl").addFilter(lambda record: record.levelno >= logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show loses no result


def main(arguments: list[str] | None = None) -> None:
    """Runs `keras-mixer` with `arguments`, by default those of the process, and exits with the status."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        status = keras_mixer_command.main(arguments, prog_name="keras-mixer", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("KERAS_MIXER_TRACEBACK") == "1":
            raise
        bad_input = isinstance(error, (ValueError, OSError, ImportError)) or NO_SPACE in str(error)
        kind = "Error" if bad_input else f"Fault ({type(error).__name__})"
        click.echo(f"{kind}: {_one_line(error)}", err=True)
        return BAD_INPUT if bad_input else FAULT


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        # Python's own text begins with the error number.
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None]
        text = f"{' -> '.join(names)}: {error.strerror}." if names else f"{error.strerror}."
    elif not isinstance(error, OSError) and NO_SPACE in text:  # TensorFlow has its own class for it, and a long text
        text = f"{NO_SPACE}."
    return " ".join(text.split()) or type(error).__name__
