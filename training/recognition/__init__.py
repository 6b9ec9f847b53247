"""Recognizers: from a grid of codes to labels."""
