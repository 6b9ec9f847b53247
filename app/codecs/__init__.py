"""Code grids and arrays as bytes: JSON rows, `.npy`, `.tess`."""
