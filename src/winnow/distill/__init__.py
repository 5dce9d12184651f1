"""Synthetic training sets: what they are, and what they are worth."""
