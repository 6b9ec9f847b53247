"""Embedders: from a grid of codes to one vector."""
