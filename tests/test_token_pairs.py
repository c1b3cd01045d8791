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
    with pytest.raises(
        InputError, match=r"max_length=10 leaves no room for a text beside the \d+ tokens that a pair's"
    ):
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


def test_windows_that_repeat_a_text_out_of_all_measure_are_refused(both: Any) -> None:
    ours, _ = both
    with pytest.raises(InputError, match="stride=297 makes .* windows"):
        ours.windows("dog " * 40_000, max_length=300, stride=297)
    assert len(ours.windows("dog " * 1000, max_length=300, stride=297)) > 700


@pytest.fixture(scope="module")
def eager(both: tuple[Tokenizer, Any]) -> tuple[Tokenizer, Any]:
    """The same, with a long pair behind it: the fast path is there where the tokenizer has one."""
    ours, reference = both
    ours.tokenize([("fox " * 10_000, "dog")], spans=False)
    return ours, reference


@pytest.mark.parametrize("limit", [5, 6, 9, 10, 17, 40, 41, 500])
def test_halves_put_together_are_the_pairs_of_transformers(eager: tuple[Tokenizer, Any], limit: int) -> None:
    ours, reference = eager
    pairs = [(a, b) for a in TEXTS[:9] for b in TEXTS[:9]]
    expected = reference([a for a, _ in pairs], [b for _, b in pairs], truncation="longest_first", max_length=limit)
    lengths = [len(ids) for ids in reference([a for a, _ in pairs], [b for _, b in pairs])["input_ids"]]
    found = ours.tokenize(pairs, max_length=limit, spans=False)
    # transformers takes an empty second half for none.
    for n, ((_, second), sequence) in enumerate(zip(pairs, found, strict=True)):
        if not second:
            continue
        assert sequence.ids.tolist() == expected["input_ids"][n], pairs[n]
        assert sequence.truncated == lengths[n] - len(sequence)
        if "token_type_ids" in expected:
            assert sequence.token_types.tolist() == expected["token_type_ids"][n]


def test_halves_put_together_keep_the_second_whole_where_asked_for(eager: tuple[Tokenizer, Any]) -> None:
    ours, reference = eager
    for text in TEXTS:
        found = ours.tokenize([(text, "is it")], max_length=14, keep_second=True, spans=False)[0]
        assert found.ids.tolist() == reference(text, "is it", truncation="only_first", max_length=14)["input_ids"]
    with pytest.raises(InputError, match="max_length=10 leaves no room for a text"):
        ours.tokenize([("text", "a very long hypothesis " * 9)], max_length=10, keep_second=True, spans=False)


def test_a_query_is_tokenized_once_for_all_its_documents(
    both: tuple[Tokenizer, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = both
    seen: list[str] = []

    class Counting:
        """The tokenizer, with a list of what it encodes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(raw, name)

        def encode(self, text: str, *pair: str, **how: Any) -> Any:
            seen.extend((text, *pair))
            return raw.encode(text, *pair, **how)

    raw = ours._raw
    monkeypatch.setattr(ours, "_raw", Counting())
    monkeypatch.setattr(ours, "_releases_lock", False)  # whatever the environment says of parallelism
    monkeypatch.setattr(ours, "_fast_made", [None])
    for n in range(3):  # chunk after chunk
        ours.tokenize([("who is the fox?", f"document {n} {m}") for m in range(5)], spans=False)
    assert seen.count("who is the fox?") == 1
    assert sum(text.startswith("document") for text in seen) == 15
    seen.clear()
    ours.tokenize([(f"text {n}", label) for n in range(4) for label in ("good", "bad")], spans=False)
    assert sorted(seen) == ["bad", "good", *(f"text {n}" for n in range(4))]


def test_messages_count_texts_as_the_caller_does(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    pairs = [("short", "x"), ("short", "y"), ("long " * 50, "x"), ("long " * 50, "y")]
    with pytest.raises(InputError, match=r"text 7 has \d+ tokens"):
        ours.tokenize(pairs, max_length=20, truncation=False, spans=False, first=12, each=2)
    with pytest.raises(InputError, match="text 6 has a lone surrogate U\\+D800 at character 1"):
        ours.tokenize([("fine", "x"), ("a\ud800", "x")], spans=False, first=12, each=2)
    with pytest.raises(InputError, match="text 0 is a tuple of"):
        ours.tokenize([("a", 1)], spans=False)  # type: ignore[list-item]


def test_a_tokenizer_whose_pairs_are_not_their_halves_is_asked_for_pairs(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers.processors import TemplateProcessing

    folder = save(train_bert(False), tmp_path, class_name="PreTrainedTokenizerFast", model_type="bert", old_files=False)
    path = str(folder / "tokenizer.json")
    raw = Raw.from_file(path)
    special = [(name, raw.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    # The second half first, and of one type with it.
    raw.post_processor = TemplateProcessing(single="$A", pair="[CLS] $B [SEP] $A", special_tokens=special)
    raw.save(path)
    ours = Tokenizer.from_folder(folder, spec())
    found = ours.tokenize([("the quick", "brown fox")], spans=False)[0]
    assert found.ids.tolist() == raw.encode("the quick", "brown fox").ids
