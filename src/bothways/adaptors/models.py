"""What the adaptors share: settings that pydantic keeps, and a model that is pickled by its name.

pydantic comes with every framework that there is an adaptor for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, PrivateAttr

from bothways.encoder import Encoder

__all__ = ["EmbedSettings", "LoadSettings", "Vector"]

Vector: TypeAlias = list[float]

#: The names that checkpoints give to the prompt of what is searched, the usual one first.
_DOCUMENT_NAMES = ("document", "passage", "corpus")


class LoadSettings(BaseModel):
    """How a model is loaded; see `Encoder.from_pretrained`."""

    model_config = ConfigDict(extra="forbid")

    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    max_length: int | None = None

    _loaded: _ByName = PrivateAttr()

    @property
    def encoder(self) -> Encoder:
        """The model."""
        return self._loaded.encoder

    def _load(self, name: str) -> None:
        options = {key: getattr(self, key) for key in LoadSettings.model_fields}
        self._loaded = _ByName(name, options)


class EmbedSettings(LoadSettings):
    """How a model is loaded, and how it embeds; see `Encoder.embed`.

    Attributes:
        normalize: Scale every vector to length 1; None does what the checkpoint says.
        dimensions: Keep the first so many values.
        query_prompt: Put in front of what is searched for; None takes the checkpoint's prompt "query".
        document_prompt: Put in front of what is searched; None takes the first that the checkpoint has of the prompts
            "document", "passage" and "corpus".
    """

    normalize: bool | None = None
    dimensions: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None

    def _queries(self, texts: Iterable[str]) -> list[Vector]:
        known = self.encoder.spec.embed.prompts.get("query", "")
        return self._vectors(texts, known if self.query_prompt is None else self.query_prompt)

    def _documents(self, texts: Iterable[str]) -> list[Vector]:
        prompts = self.encoder.spec.embed.prompts
        known = next((prompts[name] for name in _DOCUMENT_NAMES if prompts.get(name)), "")
        return self._vectors(texts, known if self.document_prompt is None else self.document_prompt)

    def _vectors(self, texts: Iterable[str], prompt: str) -> list[Vector]:
        vectors: list[Vector] = self.encoder.embed(
            list(texts), prompt=prompt, normalize=self.normalize, dimensions=self.dimensions
        ).tolist()
        return vectors


class _ByName:
    """A model that is pickled as what it was loaded by, and that copies share: it never changes."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        """Load it."""
        self.encoder = Encoder.from_pretrained(name, **options)
        self._given = name, options

    def __reduce__(self) -> tuple[type[_ByName], tuple[str, dict[str, Any]]]:
        return _ByName, self._given

    def __copy__(self) -> _ByName:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _ByName:
        return self
