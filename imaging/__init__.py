"""Image files to uint8 RGB and back: one reader for training and serving.

Needs Pillow and NumPy alone.
"""
