"""The protocol's messages: classes made of `open_inference.proto`, which `make proto` compiles.

They are in a pool of descriptors of their own: in Python's common one the names would collide with
those of `tritonclient.grpc`, wherever both are in one process. And no code is generated, which
would hold for one version of protobuf alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
# gRPC's own, which has a package of its own on the wire.
HEALTH_SERVICE = "grpc.health.v1.Health"

_COMPILED = Path(__file__).with_name("open_inference.binpb")


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(_COMPILED.read_bytes()).file:
        pool.Add(file)
    return pool


_found = _pool()
_methods: list[Any] = [
    method
    for service in (SERVICE, f"{PACKAGE}.Health")
    for method in _found.FindServiceByName(service).methods
]

# By name of the procedure.
REQUESTS: dict[str, Any] = {m.name: GetMessageClass(m.input_type) for m in _methods}
RESPONSES: dict[str, Any] = {m.name: GetMessageClass(m.output_type) for m in _methods}
