"""Runs the command line as `python -m keras_mixer`."""

from keras_mixer.cli import main

main()
