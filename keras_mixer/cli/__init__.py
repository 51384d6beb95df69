"""The command line `keras-mixer`: one thin file per sub-command, each a face of one public function."""

from keras_mixer.cli.main import main
