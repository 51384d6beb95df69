import os
import stat

import click
import pytest

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


def test_precisions_are_those_of_the_engines():
    command = click.command()(precision_option(lambda precision: None))
    assert tuple(command.params[0].type.choices) == PRECISIONS


@pytest.mark.parametrize("options", [["--engine", "jax"], ["--precision", "int8"], ["--weights", "imagenet1k"]])
def test_what_is_measured_must_be_named(options, capsys):
    assert _run(["benchmark", *options]) == 2
    assert "Name the MODEL to measure" in capsys.readouterr().err
