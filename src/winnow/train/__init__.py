"""Trainers. A trainer plugin is `train(params, task) -> facts`; the engine holds what they share."""
