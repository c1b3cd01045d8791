"""Pairs of which one half stays whole, words of tokens, and windows over the second half, beside transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import TEXTS, save, spec, train_bert, train_roberta, train_xlm_roberta

from bothways.errors import InputError
from bothways.tokens import Tokenizer

MAKERS = {
    "bert": (lambda: train_bert(False), "BertTokenizer"),
    "roberta": (train_roberta, "RobertaTokenizer"),
    "xlm-roberta": (train_xlm_roberta, "XLMRobertaTokenizer"),
}


@pytest.fixture(scope="module", params=MAKERS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tokenizer, Any]]:
    """A tokenizer, and transformers' own of the same folder."""
    from transformers import AutoTokenizer

    make, class_name = MAKERS[request.param]
    folder: Path = tmp_path_factory.mktemp(request.param)
    save(make(), folder, class_name=class_name, model_type=request.param, old_files=False)
    yield Tokenizer.from_folder(folder, spec()), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(("limit", "stride"), [(12, 0), (13, 3), (20, 5), (40, 19), (500, 100)])
def test_windows_over_the_second_half_are_those_of_transformers(both: Any, limit: int, stride: int) -> None:
    ours, reference = both
    for context in filter(None, TEXTS):  # transformers takes an empty second half for none
        expected = reference(
            "who?",
            context,
            truncation="only_second",
            max_length=limit,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        windows = ours.windows(("who?", context), max_length=limit, stride=stride)
        assert [w.ids.tolist() for w in windows] == expected["input_ids"]
        assert [[tuple(o) for o in w.offsets.tolist()] for w in windows] == expected["offset_mapping"]
        for n, window in enumerate(windows):
            parts = [-1 if part is None else part for part in expected.sequence_ids(n)]
            words = [-1 if word is None else word for word in expected.word_ids(n)]
            assert window.parts.tolist() == parts
            assert window.words.tolist() == words


@pytest.mark.parametrize("limit", [14, 30, 100])
def test_the_second_half_stays_whole_where_asked_for(both: Any, limit: int) -> None:
    ours, reference = both
    for text in TEXTS:
        found = ours.tokenize([(text, "is it")], max_length=limit, keep_second=True)[0]
        expected = reference(text, "is it", truncation="only_first", max_length=limit)["input_ids"]
        assert found.ids.tolist() == expected


def test_a_half_that_leaves_no_room_is_refused(both: Any) -> None:
    ours, _ = both
    with pytest.raises(InputError, match=r"max_length=10 leaves no room for a text beside \d+ tokens that every"):
        ours.windows(("a very long question " * 9, "context"), max_length=10)
    with pytest.raises(InputError, match="max_length=10 leaves no room for a text"):
        ours.tokenize([("text", "a very long hypothesis " * 9)], max_length=10, keep_second=True)


def test_windows_know_their_place_in_the_text(both: Any) -> None:
    ours, _ = both
    text = TEXTS[4] * 3
    whole = ours.tokenize([text])[0]
    assert whole.places.tolist() == list(range(len(whole)))
    for window in ours.windows(text, max_length=9, stride=2):
        assert whole.ids[window.places].tolist() == window.ids.tolist()


@pytest.mark.parametrize(("limit", "repeated"), [(9, 3), (400, 128)])
def test_the_stride_left_open_is_128_or_half_a_window(both: Any, limit: int, repeated: int) -> None:
    ours, _ = both
    first, second, *_ = ours.windows("the quick brown fox jumps over " * 200, max_length=limit, stride=None)
    shared = len(set(first.places) & set(second.places) - set(first.places[first.parts < 0]))
    assert shared == repeated
