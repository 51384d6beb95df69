"""`keras-mixer serve`: a server with TF Serving's REST and gRPC interface, for development."""

import functools
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from keras_mixer import wire
from keras_mixer.cli.options import PositiveNumber, max_megapixels_option, repeated
from keras_mixer.cli.output import notes_shown, start


@click.command("serve")
@click.argument("base_paths", nargs=-1, type=click.Path(path_type=Path), metavar="BASE_PATH...")
@click.option("--name", help="Name of the model in the address; by default the folder's.")
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--rest-port", default=wire.REST_PORT, help="REST port; 0 takes a free one.")
@click.option("--port", type=int, help=f"gRPC port, {wire.GRPC_PORT} by default; 0 takes a free one.")
@click.option("--no-grpc", is_flag=True, help="Serve REST only.")
@repeated("--versions", default=("latest",), help="latest, all, or the number of a version, not how many")
@repeated("--label", "labels", metavar="LABEL=VERSION", help="Name of a version")
@click.option("--model-config-file", type=click.Path(path_type=Path), help="A models.config as TF Serving reads it.")
@click.option(
    "--batching-parameters-file", type=click.Path(path_type=Path), help="Batching parameters as TF Serving reads them."
)
@click.option("--no-batching", is_flag=True, help="Run each request alone.")
@click.option("--max-batch-size", type=int, help="Largest number of rows in a batch; by default 32.")
@click.option("--batch-timeout-micros", type=int, help="Microseconds a request waits for others; by default 2000.")
@click.option("--max-body-mb", type=PositiveNumber(), default=32.0, help="Largest request body, in MiB.")
@max_megapixels_option(
    "--max-image-megapixels", about="Largest image that the server accepts (a model's own limit is set at export)"
)
@click.option("--cors", metavar="ORIGIN", help="Origin of web pages that may read the answers, or * for all.")
@click.option("--poll-seconds", type=PositiveNumber(), default=1.0, help="Seconds between looks for new versions.")
@notes_shown("%(levelname)s %(message)s")
def command(base_paths, **options):
    """Serve the SavedModels of BASE_PATH, such as saved_models/digits, over TF Serving's REST and gRPC interfaces.

    BASE_PATH holds numbered version folders. New versions are loaded when they appear. BASE_PATH may also be a bundle
    from `keras-mixer export --serving`. Its models.config says which versions are served, and is read again when it
    changes. The server's address shows a web page that classifies images.

    This server is for development. In production, use TF Serving, KServe or Ray Serve, which read the same folders.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # our own message names a port that is in use
    from keras_mixer.serving import Limits, Server

    models, reread = _models(base_paths, options)
    server = Server(
        models,
        host=options["host"],
        rest_port=options["rest_port"],
        port=_grpc_port(options["port"], options["no_grpc"]),
        batching=_batching(options),
        limits=Limits(
            max_body_bytes=int(options["max_body_mb"] * 2**20),
            max_image_pixels=options["max_pixels"],
        ),
        poll_seconds=options["poll_seconds"],
        reread=reread,
        cors=options["cors"],
    )
    for model in server.models:
        wire.check_base_path(model.base_path)
    start("tensorflow")
    stop = threading.Event()

    def handle(number, _frame):
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process immediately
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server:
            _announce(server)
            stop.wait()
            click.echo("Stopping: requests in flight are answered first.", err=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(server) -> None:
    for model in server.models:
        click.echo(f"REST  {server.url}/v1/models/{model.name}:predict")
    if server.port is not None:
        click.echo(f"gRPC  {server.grpc_target}")
    click.echo(f"Page  {server.url}/")
    if server.host not in ("127.0.0.1", "::1", "localhost"):
        click.echo(f"Anyone who reaches {server.host} can use this server: it does not ask for a password.", err=True)
    click.echo("For development only; for production take TF Serving, KServe or Ray Serve. Ctrl-C stops.")


def _models(base_paths, options) -> tuple:
    """Returns the models to serve, and a function that reads their settings again."""
    from keras_mixer.serving import ModelConfig, read_model_config

    config = options["model_config_file"]
    if config is None and len(base_paths) == 1 and (base_paths[0] / "models.config").is_file():
        config, base_paths = base_paths[0] / "models.config", ()
    single = {key: options[key] for key in ("name", "labels") if options[key]}
    if config is not None:
        if base_paths or single or options["versions"] != ("latest",):
            raise click.UsageError(
                f"{config} already names the models, their versions and labels: leave out BASE_PATH, --name, --label "
                f"and --versions."
            )
        reread = functools.partial(read_model_config, config)
        return reread(), reread
    if not base_paths:
        raise click.UsageError("Name a model's base path, such as saved_models/digits.")
    if single and len(base_paths) > 1:
        raise click.UsageError("--name and --label are for one BASE_PATH; use --model-config-file for several.")
    labels = dict(_label(text) for text in options["labels"])
    versions = _versions(options["versions"])
    return [ModelConfig(path, options["name"] or "", versions, labels) for path in base_paths], tuple


def _label(text: str) -> tuple[str, int]:
    label, _, version = text.partition("=")
    if not version.isdecimal():
        raise click.UsageError(f"--label takes LABEL=VERSION, such as stable=1, but got {text!r}.")
    return label, int(version)


def _versions(texts: Sequence[str]):
    words = [word for text in texts for word in text.split(",")]  # version 0.1 took 1,3
    if words in (["latest"], ["all"]):
        return words[0]
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        raise click.UsageError(
            f"--versions takes latest, all or numbers, such as --versions 1 --versions 3, but got {' '.join(words)!r}."
        ) from None


def _batching(options):
    from keras_mixer.serving import Batching, read_batching_parameters

    given = {key: options[key] for key in ("max_batch_size", "batch_timeout_micros") if options[key] is not None}
    file = options["batching_parameters_file"]
    if sum((options["no_batching"], file is not None, bool(given))) > 1:
        raise click.UsageError("--no-batching, --batching-parameters-file and single options cannot be used together.")
    if options["no_batching"]:
        return None
    return read_batching_parameters(file) if file is not None else Batching(**given)


def _grpc_port(port: int | None, no_grpc: bool) -> int | None:
    if no_grpc:
        if port is not None:
            raise click.UsageError("--port and --no-grpc cannot be used together.")
        return None
    if port is None and not wire.stubs_installed():
        click.echo(f"No gRPC: tensorflow-serving-api is not installed ({wire.INSTALL_STUBS}).", err=True)
        return None
    return wire.GRPC_PORT if port is None else port
