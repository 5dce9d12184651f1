"""Signals: what methods need to see of the data, computed once and shared.

A signal plugin is `compute(params, view) -> array` with one row per example of the pool.
"""
