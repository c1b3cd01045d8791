"""Texts to sequences: token ids, token types, and on request every token's text and place in the original.

The work is done by the `tokenizers` library, or, where ids alone are wanted, by a fast path that gives the same. Any
number of threads may use a `Tokenizer` at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from bothways import tokenizer_files, tokenizer_folder
from bothways.arrays import IntArray
from bothways.errors import InputError, InputTooLong
from bothways.pairs import Half, PairTemplate, capacity, kept_sizes
from bothways.sequences import Sequence, Unpacked, parts_of, select
from bothways.spec import Spec
from bothways.text_kinds import encode_error, is_pair, kind
from bothways.vocabulary import Vocabulary, read_special

if TYPE_CHECKING:
    import tokenizers

    from bothways.wordpiece import FastWordPiece

__all__ = ["Cut", "Sequence", "Text", "Tokenizer"]

#: What a user gives: a text, or a pair of texts that the model reads together.
Text: TypeAlias = str | tuple[str, str]

#: Cut what is too long, at its end or "left", its beginning; or refuse it.
Cut: TypeAlias = Literal[True, False, "left"]

#: Tokens that a window repeats of the one before, where nothing else is said and it is large enough.
_STRIDE = 128

# Windows that repeat a text so often, and have so many tokens together, are nobody's wish.
_MOST_REPEATS = 16
_MOST_WINDOWED = 8_000_000

# `tokenizers.encode` holds Python's lock, so a thread that tokenizes would keep the thread that feeds the engine
# waiting for 5 ms, Python's switch interval, each time. It gives way itself after so many seconds of work.
_TURN = 0.002

# To make the fast path takes as long as to tokenize so many characters without it: one text should not wait for it.
_FAST_AFTER = 32_768

_ZEROS = 8192


class Tokenizer:
    """Turns texts into sequences, the way the checkpoint was trained.

    Attributes:
        max_tokens: The longest sequence the checkpoint takes, special tokens included.
        vocabulary: What it knows of single tokens.
    """

    def __init__(
        self,
        raw: tokenizers.Tokenizer,
        spec: Spec,
        max_tokens: int,
        special: Mapping[str, str] | None = None,
        *,
        cuts_left: bool = False,
    ) -> None:
        """Wrap a tokenizer that nobody else changes; `from_folder` is the usual way."""
        self._cuts_left = cuts_left
        self.max_tokens = max_tokens
        self.vocabulary = Vocabulary(raw, special or {})
        self._raw = raw
        self._rows = spec.max_tokens
        self._vocabulary_rows = spec.vocab_size
        self._typed = spec.num_token_types > 1
        self._may_be_empty = spec.num_layers == 0  # nothing attends then
        # `encode` holds Python's lock; `encode_batch` does not, but has a thread pool, unless the environment forbids.
        self._releases_lock = os.environ.get("TOKENIZERS_PARALLELISM", "").lower() == "false"
        self._characters_seen = 0
        # Made when first asked for. No cached_property: up to Python 3.11 that holds a lock, which a forked child may
        # find locked for ever.
        self._single_types: bool | None = None
        self._fast_made: list[FastWordPiece | None] = []
        self._pairs_made: list[PairTemplate | None] = []
        self._first_half: tuple[str, Half | None] = ("", None)  # the last one: a query has many documents
        # The token types of every text that the fast path takes, longer ones aside.
        self._zeros = np.zeros(min(spec.max_tokens, _ZEROS), np.int32)
        self._zeros.flags.writeable = False

    @classmethod
    def from_folder(cls, folder: Path, spec: Spec) -> Tokenizer:
        """Load the tokenizer of a checkpoint folder.

        Raises:
            CheckpointError: Its files are missing or damaged, or don't fit the network's tables.
        """
        if spec.static is not None:
            from bothways.static_tokens import StaticTokenizer

            return StaticTokenizer.from_folder(folder, spec)
        files = tokenizer_folder.open_files(folder)
        raw = tokenizer_files.build(files)
        tokenizer_files.check_tables(raw, spec, folder)
        if spec.embed.lower_case:
            tokenizer_files.lower_case_first(raw)
        limit = min(files.max_tokens or spec.max_tokens, spec.max_tokens)
        tokenizer_files.check_room(raw, min(limit, spec.embed.max_tokens or limit), folder)
        return cls(raw, spec, limit, read_special(files), cuts_left=files.config.get("truncation_side") == "left")

    def tokenize(
        self,
        texts: Iterable[Text],
        *,
        max_length: int | None = None,
        truncation: Cut = True,
        first: int = 0,
        each: int = 1,
        spans: bool = True,
        keep_second: bool = False,
    ) -> list[Sequence]:
        """Turn texts into sequences of at most `max_length` tokens.

        Args:
            texts: Texts or pairs.
            max_length: The limit, special tokens included; the checkpoint's own when None.
            truncation: Cut what is too long (a pair's longer half first), its end or whatever the checkpoint says, with
                "left" its beginning; False makes it an error.
            first: The number of the first text, for messages.
            each: So many texts count as one in messages.
            spans: Keep what `Sequence.tokens` and `offsets` are made from, which takes far more memory than the ids.
                Without it a pair's halves are tokenized apart, equal ones once.
            keep_second: Cut nothing but the first half of a pair.

        Raises:
            InputError: A text can't be used as given, or is too long with truncation=False.
        """
        limit = self._limit(max_length)
        texts = list(texts)
        left = truncation == "left" or (truncation is True and self._cuts_left)
        found: list[Sequence | None] = [None] * len(texts) if spans else self._fast_sequences(texts, limit)
        if left:  # the fast path cuts ends
            found = [None if sequence is None or sequence.truncated else sequence for sequence in found]
        template = None if spans else self._pairs_among(texts)
        halves = {} if template is None else self._fast_halves(texts, limit)
        if left:
            halves = {text: half for text, half in halves.items() if len(half[0]) == half[1]}
        sequences: list[Sequence] = []
        known: dict[Text, Sequence] = {}  # equal texts are tokenized once
        turn = time.perf_counter()
        for n, (text, sequence) in enumerate(zip(texts, found, strict=True)):
            number = (first + n) // each
            if sequence is None and isinstance(text, str):
                sequence = known.get(text)
            if sequence is None:
                if time.perf_counter() - turn > _TURN:
                    time.sleep(0)
                    turn = time.perf_counter()
                if template is not None and is_pair(text):
                    a, b = self._halves(text, number, halves)
                    sequence = template.join(a, b, limit, typed=self._typed, keep_second=keep_second, left=left)
                else:
                    encoding = self._encode(text, number)
                    whole = len(encoding) <= limit
                    sequence = (
                        self._sequence(encoding, spans)
                        if whole
                        else self._cut(encoding, limit, spans, keep_second=keep_second, left=left)
                    )
                if isinstance(text, str):
                    known[text] = sequence
            if not truncation:
                self._refuse_cut(sequence, number, limit)
            self._check_tokens(len(sequence), number)
            sequences.append(sequence)
        return sequences

    def _check_tokens(self, count: int, number: int) -> None:
        if not count and not self._may_be_empty:
            raise InputError(f"text {number} has no tokens, and the network needs one at least; leave it out")

    def _refuse_cut(self, sequence: Sequence, number: int, limit: int) -> None:
        if sequence.truncated:
            allowed = "the model takes" if limit == self.max_tokens else "max_length is"
            raise InputTooLong(
                f"text {number} has {len(sequence) + sequence.truncated} tokens, {allowed} {limit}",
                "pass truncation=True to cut it",
            )

    def windows(
        self, text: Text, *, max_length: int | None = None, stride: int | None = 0, number: int = 0
    ) -> list[Sequence]:
        """Cut one text, however long, into sequences that follow each other; of a pair, the second half.

        Args:
            text: A text, or a pair whose first half is repeated whole in every window.
            max_length: The limit of each window, special tokens included; the checkpoint's own when None.
            stride: How many tokens a window repeats of the one before; None for 128, or half of a small window.
            number: The text's number, for messages.

        Raises:
            InputError: The text is not a text, or `stride` leaves no step from window to window, or hardly any.
        """
        limit = self._limit(max_length)
        encoding = self._encode(text, number)
        self._check_tokens(len(encoding), number)
        parts = parts_of(encoding)
        cut = 0 if isinstance(text, str) else 1
        around, content = np.flatnonzero(parts != cut), np.flatnonzero(parts == cut)
        room = capacity(limit, len(around), half=cut == 1)
        if stride is None:
            stride = min(_STRIDE, room // 2)
        if not 0 <= stride < room:
            raise InputError(
                f"stride={stride} does not fit a window with room for {room} of the text's tokens; give 0 to {room - 1}"
            )
        source = Unpacked(encoding)
        whole = self._sequence(encoding)
        step = room - stride
        starts = range(0, max(len(content) - stride, 1), step)
        if len(starts) * room > max(_MOST_REPEATS * len(content), _MOST_WINDOWED):
            raise InputError(
                f"stride={stride} makes {len(starts)} windows with room for {room} tokens of a text of {len(content)}; "
                "give a smaller one"
            )
        return [select(whole, source, np.r_[around, content[at : at + room]], 0) for at in starts]

    def whole(self, text: str, *, special: bool = True) -> Sequence:
        """All tokens of a text, however many, with special tokens around them or without."""
        return self._sequence(self._encode(text, 0, special=special))

    def from_ids(
        self, ids: Collection[int], *, max_length: int | None = None, truncation: Cut = True, number: int = 0
    ) -> Sequence:
        """Make a sequence of a text's token ids, with the special tokens around them where they have none.

        Raises:
            InputError: An id is not in the vocabulary, or there are too many with truncation=False.
        """
        limit = self._limit(max_length)
        content = np.array(ids, np.int64)
        wrong = content[(content < 0) | (content >= self._vocabulary_rows)]
        if len(wrong):
            raise InputError(
                f"text {number} has the token id {wrong[0]}, and this model's vocabulary has {self._vocabulary_rows} "
                "ids; give ids of this model's own tokenizer, or the text itself"
            )
        before, after = self._around
        if (content[: len(before)].tolist(), content[len(content) - len(after) :].tolist()) == (before, after):
            content = content[len(before) : len(content) - len(after)]
        room = capacity(limit, len(before) + len(after), half=False)
        cut = max(len(content) - room, 0)
        left = truncation == "left" or (truncation is True and self._cuts_left)
        content = content[cut:] if left else content[: len(content) - cut]
        kept = np.concatenate([before, content, after]).astype(np.int32)  # (n,)
        sequence = Sequence(kept, np.zeros(len(kept), np.int32), cut)
        if not truncation:
            self._refuse_cut(sequence, number, limit)
        self._check_tokens(len(sequence), number)
        return sequence

    @property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens that are put before and behind a text."""
        encoding = self._encode("a", 0)
        inside = np.flatnonzero(parts_of(encoding) == 0)
        first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (len(encoding), len(encoding))
        return encoding.ids[:first], encoding.ids[last:]

    def _fast_sequences(self, texts: list[Text], limit: int) -> list[Sequence | None]:
        """The sequences of the texts that the fast path takes, and None for the others."""
        singles = [text for text in texts if isinstance(text, str)]
        fast = self._fast_for(singles) if len(singles) == len(texts) else None
        if fast is None or limit <= fast.num_special:
            return [None] * len(texts)
        found = fast.encode(singles, limit)
        return [each and Sequence(each[0], self._no_types(len(each[0])), each[1]) for each in found]

    def _no_types(self, count: int) -> IntArray:
        return self._zeros[:count] if count <= len(self._zeros) else np.zeros(count, np.int32)

    def _fast_halves(self, texts: list[Text], limit: int) -> dict[str, Half]:
        """The halves of pairs that the fast path takes."""
        halves = list(dict.fromkeys(half for text in texts if is_pair(text) for half in text))
        fast = self._fast_for(halves)
        found = [] if fast is None else fast.encode_halves(halves, limit)
        return {text: half for text, half in zip(halves, found, strict=False) if half is not None}

    def _fast_for(self, texts: list[str]) -> FastWordPiece | None:
        self._characters_seen += sum(map(len, texts))
        return self._fast if self._characters_seen >= _FAST_AFTER else None

    def _halves(self, pair: tuple[str, str], number: int, known: dict[str, Half]) -> tuple[Half, Half]:
        """Tokenize a pair's halves; new ones become known."""
        for place, text in enumerate(pair):
            if text not in known:
                first, half = self._first_half
                if text != first or half is None:
                    ids = np.array(self._encode(text, number, special=False).ids, np.int32)
                    half = ids, len(ids)
                known[text] = half
                if place == 0:
                    self._first_half = text, half
        return known[pair[0]], known[pair[1]]

    def _pairs_among(self, texts: list[Text]) -> PairTemplate | None:
        """How pairs are made of their halves, where there are any; None also where that can't be done."""
        if not any(is_pair(text) for text in texts):
            return None
        if not self._pairs_made:
            self._pairs_made = [PairTemplate.for_tokenizer(self._raw)]
        return self._pairs_made[0]

    @property
    def decoder(self) -> tokenizers.decoders.Decoder | None:
        """What makes a text of tokens."""
        found: tokenizers.decoders.Decoder | None = self._raw.decoder
        return found

    @property
    def has_fast_path(self) -> bool:
        """Whether the ids of most texts come from the native core, once enough of them have come."""
        return self._fast is not None

    @property
    def _fast(self) -> FastWordPiece | None:
        from bothways.wordpiece import FastWordPiece

        if not self._fast_made:
            self._fast_made = [FastWordPiece.for_tokenizer(self._raw)]
        return self._fast_made[0]

    def _limit(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_tokens
        if isinstance(max_length, bool) or not isinstance(max_length, (int, np.integer)) or max_length < 1:
            raise InputError(f"max_length={max_length!r} is not a length; give a whole number from 1 to {self._rows}")
        if max_length > self._rows:
            raise InputError(
                f"max_length={max_length} is more than the checkpoint's position table has rows for; "
                f"give at most {self._rows}"
            )
        return int(max_length)

    def _encode(self, text: Text, number: int, *, special: bool = True) -> tokenizers.Encoding:
        """Run the tokenizer on one text.

        One text at a time: `encode_batch` is no faster on one core (28 against 29 microseconds a short text) and
        starts a thread pool that does not survive a fork.
        """
        try:
            if isinstance(text, str):
                if self._releases_lock:
                    return self._raw.encode_batch([text], add_special_tokens=special)[0]
                return self._raw.encode(text, add_special_tokens=special)
            if is_pair(text):
                if self._releases_lock:
                    return self._raw.encode_batch([text])[0]
                return self._raw.encode(text[0], text[1])
        except BaseException as error:
            if not (isinstance(error, Exception) or tokenizer_files.is_panic(error)):
                raise
            raise encode_error(text, number, error) from error
        raise InputError(f"text {number} is {kind(text)}; give a str, or a tuple of two str for a pair")

    @property
    def _single_typed(self) -> bool:
        """Whether a single text's tokens have types other than 0; a type depends on the place, never on the text."""
        if self._single_types is None:
            self._single_types = self._typed and any(self._encode("a", 0).type_ids)
        return self._single_types

    def _sequence(self, encoding: tokenizers.Encoding, spans: bool = True) -> Sequence:
        ids = np.array(encoding.ids, np.int32)  # (n,)
        typed = self._typed if encoding.n_sequences > 1 else self._single_typed
        token_types = np.array(encoding.type_ids, np.int32) if typed else np.zeros(len(ids), np.int32)  # (n,)
        return Sequence(ids, token_types, 0, encoding if spans else None)

    def _cut(
        self, encoding: tokenizers.Encoding, limit: int, spans: bool, *, keep_second: bool, left: bool
    ) -> Sequence:
        """Keep the first tokens of each text, or the last, so that they fit together with the special tokens.

        Chosen from the finished encoding: to truncate before the special tokens are put around, as `tokenizers`
        does, it would have to be told the limit, and that changes a tokenizer that other threads are using.
        """
        parts = parts_of(encoding)
        special, first, second = (np.flatnonzero(parts == part) for part in (-1, 0, 1))
        sizes = kept_sizes(len(first), len(second), len(special), limit, keep_second=keep_second)
        if left:
            kept = np.r_[special, first[len(first) - sizes[0] :], second[len(second) - sizes[1] :]]
        else:
            kept = np.r_[special, first[: sizes[0]], second[: sizes[1]]]
        return select(self._sequence(encoding), encoding if spans else None, kept, len(encoding) - len(kept))
