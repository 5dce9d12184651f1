"""Encoders. A model plugin is `build(params, channels, size) -> Encoder`: images to flat features."""
