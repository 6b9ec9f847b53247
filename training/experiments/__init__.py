"""Experiments that stay repeatable and that no bundle needs: embedders that were compared."""
