"""Everything a GPU machine can tell: the steps of `python -m benchmarks.gpu`."""
