"""Encoder models on the CPU: text in, token vectors and embeddings out."""

from bothways.encoder import Encoder
from bothways.errors import (
    BothwaysError,
    CheckpointError,
    DeviceError,
    InputError,
    ModelNotFound,
    OutOfMemory,
    ServerError,
    TaskError,
    UnsupportedModel,
)
from bothways.spec import EmbedSpec, Spec
from bothways.tasks.encode import Encoded

__all__ = [
    "BothwaysError",
    "CheckpointError",
    "DeviceError",
    "EmbedSpec",
    "Encoded",
    "Encoder",
    "InputError",
    "ModelNotFound",
    "OutOfMemory",
    "ServerError",
    "Spec",
    "TaskError",
    "UnsupportedModel",
]
