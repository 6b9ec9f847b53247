"""Synthetic pictures to train on: flat colours, gradients, shapes, text, charts and screens."""

from training.data.synthetic.fonts import FontError, Fonts, find_fonts
from training.data.synthetic.generator import KINDS, Kind, Synthetic

__all__ = ["KINDS", "FontError", "Fonts", "Kind", "Synthetic", "find_fonts"]
