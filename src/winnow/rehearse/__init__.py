"""Rehearsal: what a plan will cost, from a few steps of every real stage on stand-in tensors."""
