"""The contract between training and the service: what a model folder is.

Standard library only, so that both sides, and other people's programs, can
depend on it. `FORMAT.md` beside this file is the normative description.
"""

from bundle.code_space import code_space_digest
from bundle.errors import BundleError, BundleExists
from bundle.folder import Bundle, open_bundle, read_manifest, write_bundle
from bundle.manifest import Decoder, Graph, Manifest, Recognizer, Tensor
from bundle.prior import Prior, PriorStage, prior_digest

__all__ = [
    "Bundle",
    "BundleError",
    "BundleExists",
    "Decoder",
    "Graph",
    "Manifest",
    "Prior",
    "PriorStage",
    "Recognizer",
    "Tensor",
    "code_space_digest",
    "open_bundle",
    "prior_digest",
    "read_manifest",
    "write_bundle",
]
