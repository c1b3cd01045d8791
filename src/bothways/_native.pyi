"""The native engine's core: see csrc/."""

from collections.abc import Sequence
from typing import Any

import numpy
import numpy.typing


def cpu_features() -> list[str]:
    """
    The names of the CPU features that are there and that the system supports.
    """

def levels() -> list[tuple[str, str]]:
    """
    Every level of this build, best first: (name, why it can't run here, or "").
    """

def level(name: str = '') -> str:
    """
    The level of that name, or the best usable; ValueError if it is unknown or can't run here.
    """

def dtypes() -> list[str]:
    """The dtypes of every level, the default first."""

def self_test(level: str, dtype: str = 'float32') -> float:
    """
    The largest error of a level's products, attention, norm and GELU against float64.
    """

def measure_peak(level: str, dtype: str, threads: int, seconds: float) -> float:
    """
    Operations a second of a level's multiply-adds on registers alone, on so many threads at once.
    """

def measure_linear(level: str, dtype: str, rows: int, columns: int, depth: int, gelu: bool, seconds: float) -> float:
    """Operations a second of one thread's products of this shape."""

def measure_attention(level: str, dtype: str, tokens: int, heads: int, size: int, seconds: float) -> float:
    """
    Operations a second of one thread's attention of one sequence of this shape.
    """

class Network:
    """What a network is: see Network in csrc/weights.h."""

    def __init__(self) -> None: ...

    @property
    def vocabulary(self) -> int: ...

    @vocabulary.setter
    def vocabulary(self, arg: int, /) -> None: ...

    @property
    def positions(self) -> int: ...

    @positions.setter
    def positions(self, arg: int, /) -> None: ...

    @property
    def token_types(self) -> int: ...

    @token_types.setter
    def token_types(self, arg: int, /) -> None: ...

    @property
    def embedding(self) -> int: ...

    @embedding.setter
    def embedding(self, arg: int, /) -> None: ...

    @property
    def hidden(self) -> int: ...

    @hidden.setter
    def hidden(self, arg: int, /) -> None: ...

    @property
    def heads(self) -> int: ...

    @heads.setter
    def heads(self, arg: int, /) -> None: ...

    @property
    def key_heads(self) -> int: ...

    @key_heads.setter
    def key_heads(self, arg: int, /) -> None: ...

    @property
    def inner(self) -> int: ...

    @inner.setter
    def inner(self, arg: int, /) -> None: ...

    @property
    def eps(self) -> float: ...

    @eps.setter
    def eps(self, arg: float, /) -> None: ...

    @property
    def reach(self) -> int: ...

    @reach.setter
    def reach(self, arg: int, /) -> None: ...

    @property
    def vector_rows(self) -> list[int]: ...

    @vector_rows.setter
    def vector_rows(self, arg: Sequence[int], /) -> None: ...

    @property
    def vector_table_rows(self) -> int: ...

    @vector_table_rows.setter
    def vector_table_rows(self, arg: int, /) -> None: ...

    @property
    def position_keys(self) -> bool: ...

    @position_keys.setter
    def position_keys(self, arg: bool, /) -> None: ...

    @property
    def position_queries(self) -> bool: ...

    @position_queries.setter
    def position_queries(self, arg: bool, /) -> None: ...

    @property
    def score_terms(self) -> int: ...

    @score_terms.setter
    def score_terms(self, arg: int, /) -> None: ...

    @property
    def projection_first(self) -> bool: ...

    @projection_first.setter
    def projection_first(self, arg: bool, /) -> None: ...

    @property
    def convolution(self) -> int: ...

    @convolution.setter
    def convolution(self, arg: int, /) -> None: ...

    @property
    def convolution_groups(self) -> int: ...

    @convolution_groups.setter
    def convolution_groups(self, arg: int, /) -> None: ...

    @property
    def pre_norm(self) -> bool: ...

    @pre_norm.setter
    def pre_norm(self, arg: bool, /) -> None: ...

    @property
    def rms_norm(self) -> bool: ...

    @rms_norm.setter
    def rms_norm(self, arg: bool, /) -> None: ...

    @property
    def gated(self) -> bool: ...

    @gated.setter
    def gated(self, arg: bool, /) -> None: ...

    @property
    def interleaved(self) -> bool: ...

    @interleaved.setter
    def interleaved(self, arg: bool, /) -> None: ...

    @property
    def stored_layers(self) -> list[int]: ...

    @stored_layers.setter
    def stored_layers(self, arg: Sequence[int], /) -> None: ...

    @property
    def rotary(self) -> list[int]: ...

    @rotary.setter
    def rotary(self, arg: Sequence[int], /) -> None: ...

    @property
    def windows(self) -> list[int]: ...

    @windows.setter
    def windows(self, arg: Sequence[int], /) -> None: ...

    def activate(self, name: str) -> None:
        """Set the activation; ValueError if it is unknown."""

    def activate_convolution(self, name: str) -> None:
        """Set the convolution's activation; ValueError if it is unknown."""

class Model:
    """An encoder ready to compute: packed weights, threads, workspaces."""

    def __init__(self, tensors: dict[str, tuple[numpy.typing.NDArray[Any], str]], network: Network, *, level: str, dtype: str, threads: int) -> None: ...

    def encode(self, ids: numpy.typing.NDArray[numpy.int32], positions: numpy.typing.NDArray[numpy.int32], token_types: numpy.typing.NDArray[numpy.int32], starts: numpy.typing.NDArray[numpy.int32], *, keys: numpy.typing.NDArray[numpy.int32] | None = None, rows: str, hidden_states: bool, attentions: bool) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32] | None, list[numpy.typing.NDArray[numpy.float32]] | None]: ...

class WordPiece:
    """Texts to token ids; the characters that it can take are taught."""

    def __init__(self, pieces: dict[str, int], *, prefix: str, unknown: int, longest_word: int, added: list[str], before: list[int], after: list[int]) -> None: ...

    def teach(self, character: int, units: Sequence[tuple[str, str]] | None) -> None:
        """
        What becomes of a character: (UTF-8 character, "word", "alone" or "space") each; None where it depends.
        """

    def encode(self, texts: tuple[str, ...], limit: int) -> tuple[numpy.typing.NDArray[numpy.int32], list[int], list[int], list[int]]:
        """
        Ids of all texts, where each text's end, how many tokens it has (-1: not for this class, -2: unfamiliar characters), and the unfamiliar characters.
        """

class Head:
    """
    x -> activation(x @ weight.T + bias), each row independent of the others.
    """

    def __init__(self, weight: numpy.typing.NDArray[numpy.float32], bias: numpy.typing.NDArray[numpy.float32] | None, *, activation: str, level: str) -> None: ...

    def __call__(self, x: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float32]: ...

def maxsim(queries: numpy.typing.NDArray[numpy.float32], query_starts: numpy.typing.NDArray[numpy.int64], documents: numpy.typing.NDArray[numpy.float32], document_starts: numpy.typing.NDArray[numpy.int64], *, level: str, threads: int) -> numpy.typing.NDArray[numpy.float32]:
    """
    For every query and document the sum, over the query's vectors, of the largest product with one of the document's.
    """

class Comparer:
    """
    Compares vectors with vectors: see csrc/comparer.h. Rows with scales are multiplied by them.
    """

    def __init__(self, *, level: str, threads: int) -> None: ...

    def lengths(self, rows: numpy.typing.NDArray[numpy.float32]) -> numpy.typing.NDArray[numpy.float64]:
        """Every row's length; not finite where a value isn't."""

    def products(self, a: numpy.typing.NDArray[numpy.float32], a_scales: numpy.typing.NDArray[numpy.float32] | None, b: numpy.typing.NDArray[numpy.float32], b_scales: numpy.typing.NDArray[numpy.float32] | None) -> numpy.typing.NDArray[numpy.float32]:
        """The product of every row of a with every row of b."""

    def count(self, queries: numpy.typing.NDArray[numpy.float32], query_scales: numpy.typing.NDArray[numpy.float32] | None, others: numpy.typing.NDArray[numpy.float32], other_scales: numpy.typing.NDArray[numpy.float32] | None, least: float, counts: numpy.typing.NDArray[numpy.int64]) -> None:
        """Add to counts how many of the others score so much with each query."""

    def nearest(self, queries: numpy.typing.NDArray[numpy.float32], query_scales: numpy.typing.NDArray[numpy.float32] | None, others: numpy.typing.NDArray[numpy.float32], other_scales: numpy.typing.NDArray[numpy.float32] | None, first: int, ranks: numpy.typing.NDArray[numpy.uint64]) -> None:
        """
        Keep each query's best in ranks, which begin as zeros; the others are numbered from `first` on.
        """

def read_ranks(ranks: numpy.typing.NDArray[numpy.uint64]) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.int64]]:
    """
    Scores and numbers of ranks, the best of each row first; -inf and -1 where there are no more.
    """
