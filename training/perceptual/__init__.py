"""Frozen networks that come with Python packages, as measures of what is seen in a picture.

`weights` finds and verifies the files, `efficientnet_lite` and `trunks` define the networks,
`lpips` is the measure of Zhang et al. and `features` the training loss. Nothing here is trained.
"""
