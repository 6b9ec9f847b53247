"""Bodies of the protocols that others defined, as the OpenAPI document describes them.

OpenAI's embeddings, and the Open Inference Protocol, version 2. As with `app.api.schemas`, tests
hold the answers to them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """Base of answers: no fields but those declared."""

    model_config = ConfigDict(extra="forbid")


# --- OpenAI --------------------------------------------------------------------------------


class OpenAIError(Body):
    """What went wrong."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None
    code: str = Field(
        description="stable name of the failure, as in other errors of this service",
        examples=["image_corrupt"],
    )


class OpenAIProblem(Body):
    """Why a request failed, as OpenAI says it."""

    error: OpenAIError


class EmbeddingsBody(BaseModel):
    """Images to embed."""

    input: str | list[str] = Field(description="images, each as base64 or as a data: URI")
    model: str | None = Field(default=None, description="the default model if absent")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        default=None,
        description="size of the vectors: 32, 64, 128, or the model's own; the first numbers of "
        "the whole vector, scaled to length 1",
    )
    user: str | None = Field(default=None, description="ignored")


class EmbeddingsEntry(Body):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="numbers, or base64 of little-endian float32")


class EmbeddingsUsage(Body):
    """Codes, which are the tokens of an image."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Body):
    """The vectors, in the order of the input."""

    object: Literal["list"]
    data: list[EmbeddingsEntry]
    model: str
    usage: EmbeddingsUsage


# --- Open Inference Protocol ---------------------------------------------------------------


class V2Problem(Body):
    """Why a request failed, as the Open Inference Protocol says it."""

    error: str = Field(examples=["image_corrupt: the PNG image is truncated or broken"])


class V2Server(Body):
    """What serves here."""

    name: str
    version: str
    extensions: list[str]


class V2Live(Body):
    """The process answers."""

    live: bool


class V2Ready(Body):
    """The service is ready."""

    ready: bool


class V2Names(Body):
    """Names of models."""

    models: list[str] = Field(examples=[["photo-f8.encode", "photo-f8.decode"]])


class V2Index(Body):
    """One model and version."""

    name: str
    version: str
    state: str


class V2Port(Body):
    """An input or output."""

    name: str
    datatype: str = Field(examples=["INT64"])
    shape: list[int] = Field(description="-1 where a side is free", examples=[[-1, -1, -1]])


class V2Model(Body):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Port]
    outputs: list[V2Port]


class V2ConfigurationTensor(BaseModel):
    """An input or output, as a configuration describes it."""

    name: str
    data_type: str = Field(examples=["TYPE_INT64"])
    dims: list[int] = Field(description="the shape without its first axis, -1 where a side is free")


class V2Configuration(BaseModel):
    """A model's configuration: fields of Triton's `ModelConfig`."""

    name: str
    platform: str
    backend: str
    max_batch_size: int = Field(description="most items of a request")
    input: list[V2ConfigurationTensor]
    output: list[V2ConfigurationTensor]
    parameters: dict[str, Any] = Field(description="code_space and precision of the model")


class V2Duration(Body):
    """How often something happened, and how long that took."""

    count: int
    ns: int = Field(description="nanoseconds, all of them together")


class V2InferenceStatistics(Body):
    """Requests, and the stages of those that succeeded."""

    success: V2Duration
    fail: V2Duration
    queue: V2Duration
    compute_input: V2Duration = Field(description="decoding and resizing of images")
    compute_infer: V2Duration = Field(description="runs of the graphs")
    compute_output: V2Duration = Field(description="making the answer")
    cache_hit: V2Duration = Field(description="zero: there is no cache")
    cache_miss: V2Duration = Field(description="zero: there is no cache")


class V2BatchStatistics(Body):
    """Runs of one size."""

    batch_size: int = Field(description="items in the run, of all requests that shared it")
    compute_input: V2Duration
    compute_infer: V2Duration
    compute_output: V2Duration


class V2ModelStatistics(Body):
    """Totals of one model and version since the process started."""

    name: str
    version: str
    last_inference: int = Field(description="milliseconds since 1970; 0 before the first")
    inference_count: int = Field(description="items of requests that succeeded")
    execution_count: int = Field(description="runs; one that was shared, by its share of items")
    inference_stats: V2InferenceStatistics
    batch_stats: list[V2BatchStatistics]


class V2Statistics(Body):
    """Totals of models."""

    model_stats: list[V2ModelStatistics]


class V2ModelReady(Body):
    """A model is ready."""

    name: str
    ready: bool


class V2Input(BaseModel):
    """An input tensor."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="binary_data_size: its bytes follow the JSON"
    )
    data: list[Any] | None = Field(default=None, description="row-major, flat or nested")


class V2WantedOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="binary_data: whether it comes as binary"
    )


class V2InferBody(BaseModel):
    """Tensors to run a model on."""

    id: str | None = None
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="binary_data_output: whether all outputs come as binary; float_datatype: FP32 "
        "or FP16, of outputs; code_space: of the codes, to be refused where it isn't the model's; "
        "stages: how many stages of codes encoding gives, or decoding uses",
    )
    inputs: list[V2Input]
    outputs: list[V2WantedOutput] | None = None


class V2Output(Body):
    """An output tensor."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class V2Inferred(Body):
    """What came out."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] = Field(description="code_space and precision of the model")
    outputs: list[V2Output]
