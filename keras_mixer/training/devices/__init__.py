"""Devices: how a run uses those that are there, and whether its step fits on TPUs that are not."""
