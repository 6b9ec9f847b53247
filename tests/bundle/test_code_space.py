"""Facts about the code space digest."""

import struct

import pytest

from bundle import code_space_digest

CODEBOOK = ("codebook", (2, 2), struct.pack("<4f", 1, 2, 3, 4))
KERNEL = ("decoder.kernel", (1, 3), struct.pack("<3f", 5, 6, 7))


def test_golden():
    """The digest of known weights never changes: stored codes depend on it."""
    assert code_space_digest([CODEBOOK, KERNEL]) == (
        "998435132e2b976217a803daae266f0e5c142a2538c0dd9dadca1f6e12d2894f"
    )


def test_order_does_not_matter():
    """The same weights in another order are the same code space."""
    assert code_space_digest([KERNEL, CODEBOOK]) == code_space_digest([CODEBOOK, KERNEL])


@pytest.mark.parametrize(
    "other",
    [
        ("codebook", (4, 1), CODEBOOK[2]),
        ("codebooks", (2, 2), CODEBOOK[2]),
        ("codebook", (2, 2), struct.pack("<4f", 1, 2, 3, 4.0001)),
    ],
)
def test_any_difference_matters(other):
    """Another shape, name or value is another code space."""
    assert code_space_digest([other, KERNEL]) != code_space_digest([CODEBOOK, KERNEL])


def test_bytes_that_do_not_fit():
    """Bytes that don't fit the shape are refused."""
    with pytest.raises(ValueError, match="shape"):
        code_space_digest([("codebook", (3, 2), CODEBOOK[2])])


def test_two_of_one_name():
    """Two tensors of one name are refused."""
    with pytest.raises(ValueError, match="two tensors"):
        code_space_digest([CODEBOOK, CODEBOOK])
