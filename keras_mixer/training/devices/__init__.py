"""Devices: how a run uses them, and whether its training step would fit on TPUs."""
