"""Mixer beside its siblings: `python -m benchmarks.family` writes benchmarks/family.md and family.png."""
