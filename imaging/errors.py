"""Every way an image file can be refused.

The tree::

    ImageError
    ├── EmptyFile            0 bytes
    ├── UnsupportedFormat    another format, or a variant of one that has no definite 8-bit meaning
    ├── ImageTooLarge        a side is longer than any picture may have
    │   └── TooManyPixels    more pixels than the caller allows
    ├── CorruptImage         truncated, broken or hostile
    └── SideTooLong          the format that was asked for can't hold so many pixels on a side

Messages never quote the file: what a stranger sent isn't repeated.
"""

from __future__ import annotations


class ImageError(Exception):
    """Base of every refusal; its text says what is wrong and, where there is a way, what to do."""


class EmptyFile(ImageError):
    """There are no bytes."""


class UnsupportedFormat(ImageError):
    """The format, or this variant of it, is not read."""


class ImageTooLarge(ImageError):
    """A side is longer than 65,535 pixels."""


class TooManyPixels(ImageTooLarge):
    """The image has more pixels than the caller allows."""


class CorruptImage(ImageError):
    """The image is truncated, broken or hostile."""


class SideTooLong(ImageError):
    """An image can't be written: a side is longer than the format allows."""
