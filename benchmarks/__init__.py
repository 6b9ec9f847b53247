"""Speed, against peers and against the limit: `make bench`, or `python -m benchmarks --help`.

Imports neither `app` nor `training`: Tessera is measured like any other server, from outside.
"""
