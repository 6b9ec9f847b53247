"""One error for each way in which a folder can fail to be a bundle.

::

    BundleError
    ├── NotABundle           no folder, or no manifest in it
    ├── ManifestTooLarge     more than MAX_MANIFEST_BYTES
    ├── ManifestMalformed    not JSON, a field missing, of the wrong type or impossible
    ├── VersionUnsupported   a format version that this reader doesn't know
    ├── PathEscapes          a file name that isn't plain, or a link out of the folder
    ├── FileMissing          listed but not there
    ├── SizeMismatch         there, but of another size
    ├── HashMismatch         there, but with other bytes
    ├── GraphMissing         no such graph, or not in that precision
    └── BundleExists         writing onto something that isn't to be replaced
"""

from __future__ import annotations


class BundleError(Exception):
    """Base of all; its text names the file or field and says what is wrong."""


class NotABundle(BundleError):
    """No folder, or no manifest in it."""


class ManifestTooLarge(BundleError):
    """The manifest is larger than any real one."""


class ManifestMalformed(BundleError):
    """The manifest is not JSON, or a field is missing, of the wrong type or impossible."""


class VersionUnsupported(BundleError):
    """The manifest is of a format version that this reader doesn't know."""


class PathEscapes(BundleError):
    """A file name that isn't plain, or a link that leads out of the folder."""


class FileMissing(BundleError):
    """A listed file isn't there."""


class SizeMismatch(BundleError):
    """A file has another size than the manifest says."""


class HashMismatch(BundleError):
    """A file has other bytes than the manifest says."""


class GraphMissing(BundleError):
    """The bundle has no such graph, or not in that precision."""


class BundleExists(BundleError):
    """The target of writing exists and isn't to be replaced: a bundle, or another folder."""
