"""Benchmarks: how fast the hot paths are, against the field's plain loop or against what the machine can do at best."""
