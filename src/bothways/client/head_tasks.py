"""The calls of tasks that need a head: the arguments of `Encoder`'s methods, as requests and what is made of replies.

The first argument of each is where it goes to; the others are those of the method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain
from typing import Any

from bothways.client.call import CUT_OR_WINDOW, Call, each_result, is_stream, joined_lists
from bothways.client.pieces import PIECE_TEXTS, Piece, text_bytes
from bothways.client.replies import Unreadable, read_fill, read_label, read_ranked, read_results, read_span
from bothways.client.target import Target
from bothways.client.wire import Reply
from bothways.tasks import inputs
from bothways.tasks.classify import FUNCTIONS, Label
from bothways.tasks.each import Each
from bothways.tasks.fill_mask import Fill
from bothways.tasks.report import Progress
from bothways.tasks.rerank import Ranked
from bothways.tasks.spans import AGGREGATIONS, Span
from bothways.tasks.tag import TextOrWords
from bothways.tasks.zero_shot import TEMPLATE, read_labels, read_template
from bothways.tokens import Cut, Text

__all__ = ["classify", "fill_mask", "rerank", "tag", "texts_field", "zero_shot"]

#: Texts of a request where each comes back with thousands of tokens; and pairs with labels.
_FEW = 8
_PAIRS = 1024


def classify(
    target: Target,
    texts: Each[Text],
    *,
    top_k: int | None = 1,
    function: str | None = None,
    truncation: Cut = True,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Call[list[Label], list[list[Label]]]:
    """Label texts or pairs, as `Encoder.classify` does: for each its best labels.

    Args:
        target: Where to.
        texts: A text, a pair as a tuple, a list of either, or an iterator of either.
        top_k: How many labels each text gets; None gives all.
        function: What makes scores of logits: "softmax", "sigmoid", or "identity" for the logits themselves; None
            for what the checkpoint says.
        truncation: Cut longer texts, counted in `progress` or else logged; "left" cuts their beginning, False makes
            them an InputError.
        max_length: Tokens of a sequence, special tokens included.
        progress: Called after each request with the texts done, tokens computed and texts cut so far.
    """
    streamed = is_stream(texts)
    options = {
        "top_k": inputs.whole_number(top_k, "top_k"),
        "function": None if function is None else inputs.one_of(function, "function", FUNCTIONS),
        **_limits(truncation, max_length),
    }
    return Call(
        target,
        "classify",
        texts if streamed else inputs.text_list(texts),
        streamed,
        texts_field,
        options,
        each_result(read_label),
        joined_lists,
        checked=inputs.texts_and_pairs,
        progress=progress,
    )


def tag(
    target: Target,
    texts: Each[TextOrWords],
    *,
    aggregation: str = "simple",
    stride: int | None = None,
    ignore_labels: Collection[str] = ("O",),
    truncation: inputs.Truncation = "window",
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Call[list[Span], list[list[Span]]]:
    """Find labelled spans in texts of any length, as `Encoder.tag` does: for each its spans in order.

    Args:
        target: Where to.
        texts: A text, a list of texts, or an iterator. A text may be given as its words, in a list or tuple of
            its own: then offsets are in the words joined by single spaces.
        aggregation: "none", "simple", "first", "average", "max" or "word"; see there.
        stride: Tokens that a window repeats of the one before; None for 128, or half of a small window.
        ignore_labels: Labels whose spans are left out.
        truncation: "window" reads longer texts in overlapping windows; True cuts them, counted in `progress` or
            else logged, and "left" their beginning; False makes them an InputError.
        max_length: Tokens of a text or window, special tokens included.
        progress: Called after each request with the texts done, tokens computed and texts cut so far.
    """
    streamed = is_stream(texts)
    options = {
        "aggregation": inputs.one_of(aggregation, "aggregation", AGGREGATIONS),
        "stride": inputs.natural(stride, "stride"),
        "ignore_labels": sorted(inputs.string_set(ignore_labels, "ignore_labels")),
        "truncation": inputs.read_truncation(truncation),
        "max_length": inputs.whole_number(max_length, "max_length"),
    }
    return Call(
        target,
        "tag",
        texts if streamed else inputs.texts_or_words_list(texts),
        streamed,
        texts_field,
        options,
        each_result(read_span),
        joined_lists,
        checked=inputs.texts_or_words,
        progress=progress,
        message=CUT_OR_WINDOW,
    )


def fill_mask(
    target: Target,
    texts: Each[str],
    *,
    top_k: int | None = 5,
    targets: str | Collection[str] | None = None,
    truncation: Cut = True,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Call[list[Fill], list[list[Fill]]]:
    """Find the tokens that fit where texts have a mask, as `Encoder.fill_mask` does: mask after mask, the best first.

    Args:
        target: Where to.
        texts: A text with the tokenizer's mask in it once or more, a list of texts, or an iterator.
        top_k: How many tokens each mask gets; None gives all.
        targets: Choose among these tokens only; probabilities stay those among the whole vocabulary.
        truncation: Cut longer texts, counted in `progress` or else logged; "left" cuts their beginning, False makes
            them an InputError.
        max_length: Tokens of a text, special tokens included.
        progress: Called after each request with the texts done, tokens computed and texts cut so far.
    """
    streamed = is_stream(texts)
    options = {
        "top_k": inputs.whole_number(top_k, "top_k"),
        "targets": None if targets is None else inputs.string_list(targets),
        **_limits(truncation, max_length),
    }
    return Call(
        target,
        "fill_mask",
        texts if streamed else inputs.string_list(texts),
        streamed,
        texts_field,
        options,
        each_result(read_fill),
        joined_lists,
        checked=inputs.strings,
        most=_FEW if top_k is None or top_k > 1000 else PIECE_TEXTS,
        progress=progress,
    )


def zero_shot(
    target: Target,
    texts: Each[str],
    labels: str | Collection[str],
    *,
    template: str = TEMPLATE,
    multi_label: bool = False,
    truncation: Cut = True,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Call[list[Label], list[list[Label]]]:
    """Label texts with any labels, as `Encoder.zero_shot` does: for each all of them, the best first.

    Args:
        target: Where to.
        texts: A text, a list of texts, or an iterator of texts.
        labels: A list of labels, or a string with commas between them.
        template: The sentence that a label makes, with {} where the label goes.
        multi_label: Score every label on its own, as several may hold.
        truncation: Cut longer texts, with "left" their beginning, never the label's sentence; False makes them an
            InputError.
        max_length: Tokens of a text and a sentence together, special tokens included.
        progress: Called after each request with the texts done, tokens computed and texts cut so far.
    """
    streamed, names = is_stream(texts), read_labels(labels)
    count = len(names)  # each text is read so many times
    read_template(template)
    options = {
        "labels": names,
        "template": template,
        "multi_label": inputs.flag(multi_label, "multi_label"),
        **_limits(truncation, max_length),
    }
    return Call(
        target,
        "zero_shot",
        texts if streamed else inputs.string_list(texts),
        streamed,
        texts_field,
        options,
        each_result(read_label),
        joined_lists,
        checked=inputs.strings,
        size=lambda text: count * text_bytes(text),
        most=min(max(_PAIRS // count, 1), PIECE_TEXTS),
        progress=progress,
    )


def rerank(
    target: Target,
    query: str,
    documents: Iterable[str],
    *,
    top_k: int | None = None,
    raw_scores: bool = False,
    truncation: Cut = True,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Call[Ranked, list[Ranked]]:
    """Order documents by how well they answer a query, as `Encoder.rerank` does: the best first.

    Args:
        target: Where to.
        query: What is asked.
        documents: A list of texts, or an iterator.
        top_k: How many documents to return; None returns all.
        raw_scores: Leave scores as the network gives them.
        truncation: Cut pairs that are too long, the longer half first; "left" cuts their beginnings, False makes
            them an InputError.
        max_length: Tokens of a query and a document together, special tokens included.
        progress: Called after each request with the documents done, tokens computed and pairs cut so far.
    """
    most = inputs.whole_number(top_k, "top_k")
    options = {
        "query": inputs.one_string(query, "query"),
        "top_k": most,
        "raw_scores": inputs.flag(raw_scores, "raw_scores"),
        **_limits(truncation, max_length),
    }

    def read(reply: Reply, piece: Piece[str]) -> list[Ranked]:
        count = len(piece.items) if most is None else min(most, len(piece.items))
        found = read_results(reply, count, read_ranked)
        if not all(0 <= one.index < len(piece.items) for one in found):
            raise Unreadable("it ranks documents that were not sent")
        return [Ranked(one.index + piece.first, one.score) for one in found]

    def best(blocks: list[list[Ranked]]) -> list[Ranked]:
        ranked = sorted(chain.from_iterable(blocks), key=lambda one: (-one.score, one.index))
        return ranked[:most]

    return Call(
        target,
        "rerank",
        documents if is_stream(documents) else inputs.string_list(documents),
        False,
        lambda items: {"documents": items},
        options,
        read,
        best,
        checked=inputs.strings,
        progress=progress,
    )


def texts_field(items: list[Any]) -> dict[str, Any]:
    """The usual field of a piece's items."""
    return {"texts": items}


def _limits(truncation: Any, max_length: Any) -> dict[str, Any]:
    return {
        "truncation": inputs.read_cut(truncation),
        "max_length": inputs.whole_number(max_length, "max_length"),
    }
