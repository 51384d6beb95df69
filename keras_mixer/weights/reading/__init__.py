"""Readers for all supported formats of checkpoint files, and the official names of weights."""
