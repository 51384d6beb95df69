import os
import re
import stat

import click
import pytest

from keras_mixer.cli import options
from keras_mixer.cli.main import _run
from keras_mixer.cli.options import PictureFile, precision_option
from keras_mixer.engines import PRECISIONS


def converted(path):
    return PictureFile(".png", ".svg").convert(str(path), None, None)


def test_a_path_is_taken_as_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a.png", "../b.svg", "new/folder/c.png", str(tmp_path / "d.png")):
        assert converted(path) == path
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("HOME", str(tmp_path))
    assert converted("~/e.png") == str(tmp_path / "e.png")  # no shell expands it after "="


def test_a_folder_that_can_never_be_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(click.BadParameter, match="file is not a folder"):
        converted(tmp_path / "file" / "deeper" / "a.png")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(click.BadParameter, match="gone is not a folder"):
        converted(tmp_path / "gone" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(click.BadParameter, match="is a directory"):
        converted(tmp_path / "folder.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error_at_once(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(click.BadParameter, match="no permission to write"):
            converted(tmp_path / "new" / "a.png")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_permission_is_asked_of_the_nearest_folder_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != str(tmp_path))
    with pytest.raises(click.BadParameter, match=f"no permission to write to {tmp_path}"):
        converted(tmp_path / "new" / "a.png")


def test_another_suffix_is_an_error():
    with pytest.raises(click.BadParameter, match=r"must end in \.png or \.svg, but got a\.jpg"):
        converted("a.jpg")


def test_a_path_comes_before_the_name_of_a_variant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.names_variant("mixer_nano", "cifar10")
    (tmp_path / "mixer_nano").mkdir()
    assert not options.names_variant("mixer_nano", None)
    with pytest.raises(ValueError, match="a trained model has its own weights"):
        options.names_variant("mixer_nano", "cifar10")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--model", "mixer_nano", "photo.jpg"], "mixer_nano .* give its --weights, such as cifar10"),
        (["predict", "--model", "mixer_nano", "--engine", "onnxruntime", "photo.jpg"], "such as cifar10"),
        (["evaluate", "mixer_nano", "--dataset", "digits"], "such as cifar10"),
        (["fewshot", "mixer_nano", "--dataset", "digits"], "such as cifar10"),
        (["visualize", "mixer_b16", "--output", "pictures"], "--weights, such as imagenet1k"),
        (["fewshot", "mixer_h14"], "--weights, such as a file of weights"),
        (["weights", "push", "mixer_nano", "hf://owner/repo"], "A model is a run folder .* but got mixer_nano"),
    ],
)
def test_a_variant_without_weights_is_refused(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _run(arguments) == 2
    assert re.search(message, capsys.readouterr().err)


def test_only_speed_is_measured_with_random_weights():
    assert options.names_variant("mixer_nano", None, untrained=True)


def test_precisions_are_those_of_the_engines():
    command = click.command()(precision_option(lambda precision: None))
    assert tuple(command.params[0].type.choices) == PRECISIONS


@pytest.mark.parametrize("arguments", [["--engine", "jax"], ["--precision", "int8"], ["--weights", "imagenet1k"]])
def test_what_is_measured_must_be_named(arguments, capsys):
    assert _run(["benchmark", *arguments]) == 2
    assert "Name the MODEL to measure" in capsys.readouterr().err
