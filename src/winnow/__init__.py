"""Winnow: reproducible benchmarks for data-efficient learning."""
