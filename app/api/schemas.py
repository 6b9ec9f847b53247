"""Request and response bodies as the OpenAPI document describes them.

Answers are built as plain values (`app.api.responses`): validating a megabyte of codes on the
way out would cost more than computing them. Tests hold the answers to these schemas.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Schema(BaseModel):
    """Base: no fields but those declared."""

    model_config = ConfigDict(extra="forbid")


class Problem(Schema):
    """Why a request failed (RFC 9457)."""

    type: str = Field(examples=["urn:tessera:problem:image_corrupt"])
    title: str = Field(examples=["Image corrupt"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["the JPEG image is truncated or broken"])
    code: str = Field(description="stable name of the failure", examples=["image_corrupt"])
    request_id: str = Field(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])


class ItemError(Schema):
    """Why one item of several failed."""

    code: str = Field(examples=["image_corrupt"])
    status: int = Field(examples=[422])
    detail: str


class ItemWarning(Schema):
    """What may look wrong about an image although it was decoded as its file says."""

    code: Literal["dark_samples", "profile_ignored"]
    detail: str


class ItemBase(Schema):
    """What every item says."""

    index: int = Field(ge=0, description="position in the request")
    name: str | None = Field(default=None, description="file name, if the client sent one")
    warnings: list[ItemWarning] | None = Field(
        default=None, description="what may look wrong about the image"
    )
    error: ItemError | None = Field(default=None, description="why there is no result")


class ImagesBody(BaseModel):
    """Images as JSON. Addresses are never fetched."""

    images: list[str] = Field(
        min_length=1, description="base64 of an image file, or a data: URI", examples=[["iVBORw0…"]]
    )


class EncodedItem(ItemBase):
    """The codes of one image."""

    width: int | None = Field(default=None, ge=1, description="pixels")
    height: int | None = Field(default=None, ge=1, description="pixels")
    grid: list[int] | None = Field(
        default=None, description="[rows, columns]", min_length=2, max_length=2, examples=[[64, 96]]
    )
    stages: int | None = Field(
        default=None,
        ge=1,
        description="how many stages the codes have; where the model has several",
        examples=[1],
    )
    codes: list[list[int]] | list[list[list[int]]] | None = Field(
        default=None,
        description="rows of integers in [0, codebook_size); of several stages, such rows of each",
        examples=[[[17, 4], [203, 9]]],
    )


class Encoded(Schema):
    """Codes, as decoding takes them."""

    model: str = Field(examples=["photo-f8"])
    code_space: str = Field(description="what the codes mean: digest of codebook and decoder")
    precision: str = Field(examples=["fp32"])
    data: list[EncodedItem]


class CodesItem(BaseModel):
    """One grid to decode. An item with `error` and no codes is skipped."""

    codes: list[list[int]] | list[list[list[int]]] | None = Field(
        default=None,
        description="rows of integers, all of one length; of several stages, such rows of each",
    )
    width: int | None = Field(default=None, description="true width in pixels; crops")
    height: int | None = Field(default=None, description="true height in pixels; crops")
    name: str | None = None
    error: Any = None


class CodesBody(BaseModel):
    """Codes as JSON: what encoding answered, or at least these fields of it."""

    code_space: str
    data: list[CodesItem] = Field(min_length=1)


class PictureItem(ItemBase):
    """One image."""

    width: int | None = Field(default=None, ge=1, description="pixels")
    height: int | None = Field(default=None, ge=1, description="pixels")
    media_type: str | None = Field(default=None, examples=["image/png"])
    image: str | None = Field(default=None, description="base64 of the file")


class Pictures(Schema):
    """Several images."""

    data: list[PictureItem]


class ReconstructedItem(PictureItem):
    """One image, and how near it is to its original."""

    psnr: float | None = Field(
        default=None,
        description="PSNR in dB over all samples; null if equal",
    )
    bits_per_pixel: float | None = Field(
        default=None,
        description="bits of the codes at fixed length, for each pixel",
    )


class Reconstructions(Schema):
    """Several reconstructed images."""

    data: list[ReconstructedItem]


class EmbeddedItem(ItemBase):
    """One vector."""

    embedding: list[float] | str | None = Field(
        default=None,
        description="a vector of length 1: numbers, or base64 of little-endian float32",
    )


class Embedded(Schema):
    """Vectors."""

    model: str = Field(examples=["photo-f8"])
    code_space: str
    dimension: int = Field(examples=[256])
    data: list[EmbeddedItem]


class Label(Schema):
    """One class."""

    label: str = Field(examples=["church"])
    probability: float = Field(ge=0, le=1, examples=[0.91])


class ClassifiedItem(ItemBase):
    """The labels of one image or grid."""

    labels: list[Label] | None = Field(default=None, description="the most probable first")
    map: list[list[float]] | None = Field(
        default=None,
        description="activation of the first label over the code grid, 0…1; with map=true",
        examples=[[[0.0, 0.2], [0.1, 1.0]]],
    )
    box: list[int] | None = Field(
        default=None,
        description="[x0, y0, x1, y1] in pixels around the map's main region, within the picture: "
        "where the label comes from, learnt without boxes (weakly supervised); with map=true",
        min_length=4,
        max_length=4,
        examples=[[8, 0, 16, 16]],
    )


class Classified(Schema):
    """Labels."""

    model: str
    code_space: str
    recognizer: str = Field(examples=["imagenette-10"])
    data: list[ClassifiedItem]


class CostItem(ItemBase):
    """What the codes of one image cost."""

    width: int | None = Field(default=None, ge=1, description="pixels")
    height: int | None = Field(default=None, ge=1, description="pixels")
    bits: float | None = Field(default=None, ge=0, description="of all codes")
    bits_per_code: float | None = Field(default=None, ge=0, examples=[7.6])
    bits_per_pixel: float | None = Field(default=None, ge=0, examples=[0.119])
    map: list[list[float]] | list[list[list[float]]] | None = Field(
        default=None,
        description="bits of each code, rows of the code grid; of several stages, such rows of "
        "each; if asked for",
    )


class Costs(Schema):
    """How many bits codes take, coded by their context."""

    model: str
    code_space: str
    prior: str = Field(description="digest of what says so")
    data: list[CostItem]


class Alive(Schema):
    """The process answers."""

    status: str = Field(examples=["alive"])


class Ready(Schema):
    """The service is ready."""

    status: str = Field(examples=["ready"])
    models: list[str]
