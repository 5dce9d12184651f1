"""Protocols. A protocol plugin is `evaluate(params, view) -> metrics`, a dict of name to (value, n)."""
