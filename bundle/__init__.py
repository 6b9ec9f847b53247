"""The contract between training and the service: what a model folder is.

Standard library only, so that both sides, and other people's programs, can
depend on it. `FORMAT.md` beside this file is the normative description.
"""

from bundle.code_space import code_space_digest
from bundle.errors import BundleError
from bundle.folder import Bundle, open_bundle, write_bundle
from bundle.manifest import Graph, Manifest, Recognizer, Tensor

__all__ = [
    "Bundle",
    "BundleError",
    "Graph",
    "Manifest",
    "Recognizer",
    "Tensor",
    "code_space_digest",
    "open_bundle",
    "write_bundle",
]
