"""What the HTTP API says of models, as the OpenAPI document describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from app.api.schemas import Schema


class PriorFacts(Schema):
    """The context model of a model's codes."""

    digest: str = Field(description="what names it; files coded with it carry its beginning")
    metrics: dict[str, Any] = Field(description="bits a code, by what they were measured on")


class PixelFacts(Schema):
    """What a model's pixels are."""

    channels: int = Field(description="1 to 16; pictures have 1, 3 or 4, others are npy alone")
    maximum: int = Field(
        description="the sample that is white; above 255 samples have 16 bits", examples=[255]
    )


class StageFacts(Schema):
    """One stage of a model's codes."""

    codebook_size: int = Field(examples=[4096])
    bits_per_code: int = Field(description="at a fixed length", examples=[12])


class DecoderFacts(Schema):
    """A decoder of a model."""

    precision: str = Field(description="precision that runs here", examples=["fp32"])
    metrics: dict[str, Any] = Field(description="what was measured when it was made")


class RecognizerFacts(Schema):
    """A recognizer of a model."""

    classes: list[str] = Field(description="class names in the order of its scores")
    licence: str = Field(description="licence of the data it was trained on")
    metrics: dict[str, Any] = Field(description="what was measured when it was made")
    map: bool = Field(description="whether it gives activation maps, and so boxes")


class QuantizerFacts(Schema):
    """How codes are made, and what one of them can tell."""

    kind: str | None = Field(
        description="such as `ema`, `simvq`, `fsq`, `lfq`, `bsq` or `product`; null where the "
        "bundle doesn't say",
        examples=["ema"],
    )
    factors: list[int] = Field(
        description="where a code is made up of several choices, how many there are for each, the "
        "first counting fastest; empty where it is one choice"
    )
    information_bits: list[float] = Field(
        description="log₂ of the codebook's size, of each stage; `bits_per_code` is the next "
        "whole number",
        examples=[[12.0]],
    )


class ModelFacts(Schema):
    """What a model's manifest says of it, and how it runs here."""

    id: str = Field(description="name@version", examples=["photo-f8@1"])
    object: Literal["model"] = Field(description="for clients of OpenAI's API")
    created: int = Field(description="when its bundle was written, in seconds since 1970")
    owned_by: str = Field(description="for clients of OpenAI's API")
    name: str = Field(examples=["photo-f8"])
    version: str
    aliases: list[str] = Field(
        description="other names that mean it now: the newest version has the name without "
        "version too",
        examples=[["photo-f8"]],
    )
    code_space: str
    pixels: PixelFacts
    stride: int = Field(description="pixels per code along each axis", examples=[8])
    codebook_size: int = Field(description="of the first stage", examples=[4096])
    codebook_width: int = Field(description="dimension of a code vector")
    bits_per_code: int = Field(description="of the first stage", examples=[12])
    stages: list[StageFacts] = Field(
        description="stages of the codes: the first so many of them are codes too, and decode"
    )
    default_stages: int = Field(
        description="how many stages encoding answers with if nobody says", examples=[1]
    )
    quantizer: QuantizerFacts
    decoders: dict[str, DecoderFacts] = Field(
        description="decoders by name, all for the same codes; `default` is what decodes if "
        "nobody says, the one for the least squared error, and `metrics` of the model are its own"
    )
    embedding_dimension: int
    precision: str = Field(description="precision that runs here", examples=["fp32"])
    precisions: list[str] = Field(description="precisions that the bundle carries")
    device: str = Field(examples=["cpu"])
    recognizers: dict[str, RecognizerFacts] = Field(
        description="recognizers by name; empty without any",
    )
    prior: PriorFacts | None = Field(
        description="the model that codes by context; null where there is none",
    )
    data: list[dict[str, Any]] = Field(description="what it was trained on, with licences")
    metrics: dict[str, Any] = Field(description="what was measured at export")


class ModelList(Schema):
    """The loaded models."""

    object: Literal["list"] = Field(description="for clients of OpenAI's API")
    default: str = Field(
        description="the model for requests that name none: its name, or its id where the name "
        "without version means a newer one"
    )
    data: list[ModelFacts]


class Reloaded(Schema):
    """What is served from now on."""

    default: str
    models: list[str]


class Codebook(Schema):
    """The code vectors."""

    model: str
    code_space: str
    codebook_size: int
    codebook_width: int
    vectors: list[list[float]] = Field(description="one row for each code")
