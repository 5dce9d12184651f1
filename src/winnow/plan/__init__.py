"""The plan: what would run, decided from configuration alone. Imports no torch."""
