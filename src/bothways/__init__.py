"""Encoder models on the CPU: text in, token vectors and embeddings out."""

from typing import TYPE_CHECKING

from bothways.embed_spec import EmbedSpec
from bothways.encoder import Encoder
from bothways.errors import (
    BothwaysError,
    CheckpointError,
    DeviceError,
    InputError,
    InputTooLong,
    ModelNotFound,
    OutOfMemory,
    ServerError,
    TaskError,
    UnsupportedModel,
)
from bothways.inspection import Inspection, inspect
from bothways.mining.communities import community_detection
from bothways.mining.negatives import mine_hard_negatives
from bothways.mining.search import Pair, paraphrase_mining, semantic_search
from bothways.spec import HeadSpec, Spec
from bothways.tasks.answer import Answer
from bothways.tasks.classify import Label
from bothways.tasks.encode import Encoded
from bothways.tasks.fill_mask import Fill
from bothways.tasks.maxsim import maxsim
from bothways.tasks.rerank import Ranked
from bothways.tasks.spans import Span
from bothways.tasks.sparse import SparseEmbedding

__all__ = [
    "Answer",
    "AsyncClient",
    "BothwaysError",
    "CheckpointError",
    "Client",
    "DeviceError",
    "EmbedSpec",
    "Encoded",
    "Encoder",
    "Fill",
    "HeadSpec",
    "InputError",
    "InputTooLong",
    "Inspection",
    "Label",
    "ModelNotFound",
    "OutOfMemory",
    "Pair",
    "Ranked",
    "ServerError",
    "Span",
    "SparseEmbedding",
    "Spec",
    "TaskError",
    "UnsupportedModel",
    "__version__",
    "community_detection",
    "inspect",
    "maxsim",
    "mine_hard_negatives",
    "paraphrase_mining",
    "semantic_search",
]

if TYPE_CHECKING:
    from bothways.client import AsyncClient, Client

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """Look up what takes longer than everything else here only when it is asked for: the version, the clients."""
        if name in ("AsyncClient", "Client"):
            from bothways import client

            return getattr(client, name)
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("bothways")
        except PackageNotFoundError:  # run from its sources
            return "0+unknown"
