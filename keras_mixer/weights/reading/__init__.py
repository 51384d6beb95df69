"""Checkpoint files of every supported format, and the official names of their arrays."""
