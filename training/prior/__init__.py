"""A prior over codes: what the next code of a picture is likely to be, in whole numbers alone.

What entropy coding needs (docs/codes-format.md) and surprise is measured with.
`python -m training.prior` trains one and puts it into a bundle.
"""
