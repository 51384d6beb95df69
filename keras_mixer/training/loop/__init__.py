"""The training loop: data, the step of each backend, callbacks, checkpoints, and the run that ties them together."""
