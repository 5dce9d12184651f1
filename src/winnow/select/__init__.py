"""Methods: which examples to keep. A plugin is `select(view, budget, rng, params) -> Subset`."""
