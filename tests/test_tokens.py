"""Sequences: lengths, truncation, windows, offsets, refused input, and use from many threads and processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizer_folders import PAIRS, TEXTS, save, spec, train_bert, train_roberta

from bothways.embed_spec import EmbedSpec
from bothways.errors import CheckpointError, InputError, InputTooLong
from bothways.tokens import Sequence, Text, Tokenizer


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    return save(train_bert(False), folder, class_name="BertTokenizer", model_type="bert", old_files=False)


@pytest.fixture(scope="module")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roberta")
    return save(train_roberta(), folder, class_name="RobertaTokenizer", model_type="roberta", old_files=False)


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(bert_folder, spec())


@pytest.fixture(scope="module")
def roberta(roberta_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(roberta_folder, spec(token_types=1))


@pytest.fixture(scope="module", params=["bert", "roberta"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Tokenizer, Any]]:
    """A tokenizer, and transformers' own of the same folder."""
    transformers = pytest.importorskip("transformers")
    folder = request.getfixturevalue(f"{request.param}_folder")
    yield request.getfixturevalue(request.param), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("limit", [3, 4, 5, 7, 8, 16, 31, 64, 200])
def test_single_texts_are_cut_like_transformers(both: tuple[Tokenizer, Any], limit: int) -> None:
    ours, reference = both
    expected = reference(TEXTS, truncation=True, max_length=limit)["input_ids"]
    assert [s.ids.tolist() for s in ours.tokenize(TEXTS, max_length=limit)] == expected


@pytest.mark.parametrize("limit", [5, 6, 7, 8, 9, 10, 15, 16, 40, 41, 100])
def test_pairs_are_cut_like_transformers(both: tuple[Tokenizer, Any], limit: int) -> None:
    ours, reference = both
    expected = reference([a for a, _ in PAIRS], [b for _, b in PAIRS], truncation=True, max_length=limit)
    sequences = ours.tokenize(PAIRS, max_length=limit)
    assert [s.ids.tolist() for s in sequences] == expected["input_ids"]
    if "token_type_ids" in expected:
        assert [s.token_types.tolist() for s in sequences] == expected["token_type_ids"]


def test_pairs_of_all_small_sizes_are_cut_like_transformers(both: tuple[Tokenizer, Any]) -> None:
    ours, reference = both
    pairs = [("a " * i, "a " * j) for i in range(9) for j in range(9)]
    for limit in range(5, 22):
        expected = reference([a for a, _ in pairs], [b for _, b in pairs], truncation=True, max_length=limit)
        assert [s.ids.tolist() for s in ours.tokenize(pairs, max_length=limit)] == expected["input_ids"]


def test_truncated_counts_the_tokens_cut_off(bert: Tokenizer) -> None:
    whole, cut = bert.tokenize(["the " * 20])[0], bert.tokenize(["the " * 20], max_length=10)[0]
    assert (len(whole), whole.truncated) == (22, 0)
    assert (len(cut), cut.truncated) == (10, 12)


def test_cut_sequences_keep_tokens_and_offsets_of_what_is_left(roberta: Tokenizer) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    whole, cut = roberta.tokenize([text])[0], roberta.tokenize([text], max_length=8)[0]
    assert cut.tokens == [*whole.tokens[:7], whole.tokens[-1]]
    assert cut.offsets.tolist() == [*whole.offsets[:7].tolist(), [0, 0]]


def test_too_long_without_truncation_names_text_and_both_lengths(bert: Tokenizer) -> None:
    texts = ["short", "the " * 729]
    with pytest.raises(InputError, match="text 3 has 731 tokens, the model takes 512; pass truncation=True to cut it"):
        bert.tokenize(texts, truncation=False, first=2)
    with pytest.raises(InputError, match="text 1 has 731 tokens, max_length is 40"):
        bert.tokenize(texts, truncation=False, max_length=40)


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "9"])
def test_max_length_that_is_no_length_is_refused(bert: Tokenizer, limit: Any) -> None:
    with pytest.raises(InputError, match="is not a length; give a whole number from 1 to 512"):
        bert.tokenize(["a"], max_length=limit)


def test_max_length_beyond_the_position_table_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(InputError, match="max_length=513 is more than .* give at most 512"):
        bert.tokenize(["a"], max_length=513)


def test_max_length_without_room_for_text_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(InputError, match="no room for a text beside 2 special tokens; give at least 3"):
        bert.tokenize(["a"], max_length=2)
    assert bert.tokenize([""], max_length=2)[0].tokens == ["[CLS]", "[SEP]"]


def test_offsets_are_code_points_of_the_original_text(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    text = "👩‍👩‍👧‍👦 Café 😀 quick 𠀀 dog"
    offsets = ours.tokenize([text])[0].offsets
    for word in ("Café", "quick", "dog"):
        start = text.index(word)
        inside = [(a, b) for a, b in offsets.tolist() if start <= a < b <= start + len(word)]
        assert "".join(text[a:b] for a, b in inside) == word


def test_offsets_put_together_are_the_text(roberta: Tokenizer) -> None:
    for text in TEXTS:
        sequence = roberta.tokenize([text])[0]
        covered = np.zeros(len(text), bool)
        for start, end in sequence.offsets:
            covered[start:end] = True
        assert sequence.truncated or all(c.isspace() or done for c, done in zip(text, covered, strict=True))


def test_special_tokens_have_empty_offsets(bert: Tokenizer) -> None:
    sequence = bert.tokenize([("the fox", "a dog")])[0]
    special = [i for i, token in enumerate(sequence.tokens) if token in ("[CLS]", "[SEP]")]
    assert len(special) == 3
    assert not sequence.offsets[special].any()


def test_token_types_are_zero_for_a_network_with_one_type(bert_folder: Path) -> None:
    for types in (0, 1):
        tokenizer = Tokenizer.from_folder(bert_folder, spec(token_types=types))
        assert not tokenizer.tokenize([("the", "fox")])[0].token_types.any()


@pytest.mark.parametrize(("limit", "stride"), [(8, 0), (8, 2), (8, 5), (16, 3), (64, 61), (512, 0)])
def test_windows_are_those_of_transformers(both: tuple[Tokenizer, Any], limit: int, stride: int) -> None:
    ours, reference = both
    for text in [TEXTS[0], TEXTS[4], TEXTS[6], TEXTS[15], "a b " * 100]:
        expected = reference(
            text,
            truncation=True,
            max_length=limit,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        windows = ours.windows(text, max_length=limit, stride=stride)
        assert [w.ids.tolist() for w in windows] == expected["input_ids"]
        assert [[tuple(o) for o in w.offsets.tolist()] for w in windows] == expected["offset_mapping"]


def test_windows_cover_every_token_and_overlap_by_stride(bert: Tokenizer) -> None:
    text = "the quick brown fox jumps over the lazy dog " * 50
    whole = bert.tokenize([text], max_length=512)[0]
    windows = bert.windows(text, max_length=50, stride=10)
    assert all(w.tokens[0] == "[CLS]" and w.tokens[-1] == "[SEP]" and len(w) <= 50 for w in windows)
    for before, after in zip(windows, windows[1:], strict=False):
        assert before.ids[-11:-1].tolist() == after.ids[1:11].tolist()
    joined = [*windows[0].ids[1:-1], *(i for w in windows[1:] for i in w.ids[11:-1])]
    assert not whole.truncated
    assert joined == whole.ids[1:-1].tolist()


@pytest.mark.parametrize("stride", [-1, 6, 7])
def test_stride_that_leaves_no_step_is_refused(bert: Tokenizer, stride: int) -> None:
    with pytest.raises(InputError, match="does not fit a window with room for 6 .* give 0 to 5"):
        bert.windows("the fox", max_length=8, stride=stride)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, "a NoneType"),
        (3, "a int"),
        (b"bytes", "a bytes"),
        (["a", "b"], r"a list of \(str, str\)"),
        (("a",), r"a tuple of \(str\)"),
        (("a", None), r"a tuple of \(str, NoneType\)"),
        (("a", "b", "c"), r"a tuple of \(str, str, str\)"),
    ],
)
def test_what_is_not_a_text_is_named(bert: Tokenizer, text: Any, kind: str) -> None:
    with pytest.raises(InputError, match=f"text 6 is {kind}; give a str, or a tuple of two str for a pair"):
        bert.tokenize(["fine", text], first=5)


@pytest.mark.parametrize(("text", "at"), [("\ud800", 0), ("abc😀\udfff", 4), (("fine", "ab\udc00"), 2)])
def test_lone_surrogate_is_refused_with_its_place(both: tuple[Tokenizer, Any], text: Any, at: int) -> None:
    with pytest.raises(InputError, match=rf"text 3 has a lone surrogate U\+D[89A-F]\w\w at character {at}, .*utf-16"):
        both[0].tokenize([text], first=3)


def test_advice_about_lone_surrogates_works(bert: Tokenizer) -> None:
    mended = "a\ud800b \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert len(bert.tokenize([mended])) == 1


def test_a_very_long_word_is_one_unknown_token(bert: Tokenizer) -> None:
    assert bert.tokenize(["x" * 100_000])[0].tokens == ["[CLS]", "[UNK]", "[SEP]"]


def test_sequence_has_the_arrays_that_batches_are_packed_from(bert: Tokenizer) -> None:
    sequence = bert.tokenize([("the fox", "a dog")])[0]
    assert sequence.ids.dtype == sequence.token_types.dtype == np.int32
    assert sequence.ids.shape == sequence.token_types.shape == (len(sequence),)


def test_equal_texts_are_tokenized_once_and_all_come_back(bert: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    encode = Tokenizer._encode
    monkeypatch.setattr(Tokenizer, "_encode", lambda *given: seen.append(given[1]) or encode(*given))
    texts = ["the fox", "a dog", "the fox", ("the fox", "a dog"), "a dog", "the fox"]
    sequences = bert.tokenize(texts)
    assert [text for text in seen if text != "a"] == ["the fox", "a dog", ("the fox", "a dog")]
    assert [s.tokens for s in sequences] == [bert.tokenize([text])[0].tokens for text in texts]


@pytest.mark.parametrize("max_length", [None, 5])
def test_without_spans_ids_types_and_cuts_are_the_same(both: tuple[Tokenizer, Any], max_length: int | None) -> None:
    tokenizer, _ = both
    texts = [*TEXTS, *PAIRS]
    plain = tokenizer.tokenize(texts, max_length=max_length, spans=False)
    for ours, expected in zip(plain, tokenizer.tokenize(texts, max_length=max_length), strict=True):
        np.testing.assert_array_equal(ours.ids, expected.ids)
        np.testing.assert_array_equal(ours.token_types, expected.token_types)
        assert ours.truncated == expected.truncated
        with pytest.raises(InputError, match="knows its ids alone and no text"):
            _ = ours.tokens


def test_sequence_made_from_ids_alone_has_no_tokens() -> None:
    ids = np.zeros(3, np.int32)
    assert len(Sequence(ids, ids)) == 3
    with pytest.raises(InputError, match="knows its ids alone and no text; use Tokenizer.tokenize"):
        _ = Sequence(ids, ids).tokens


def test_failing_tokenizer_is_blamed_on_the_checkpoint(tmp_path: Path) -> None:
    raw = train_bert(False)
    folder = save(raw, tmp_path, class_name="PreTrainedTokenizerFast", model_type="bert", old_files=False)
    path = folder / "tokenizer.json"
    path.write_text(
        path.read_text()
        .replace('"unk_token":"[UNK]"', '"unk_token":"[NO]"')
        .replace('"unk_token": "[UNK]"', '"unk_token": "[NO]"')
    )
    with pytest.raises(CheckpointError, match="tokenizer fails on text 0: .*Missing"):
        Tokenizer.from_folder(folder, spec()).tokenize(["\u4e00\u9fff" * 3])


def test_many_threads_share_a_tokenizer(both: tuple[Tokenizer, Any]) -> None:
    ours, _ = both
    texts = [*TEXTS, *PAIRS]
    expected = {limit: [s.ids.tolist() for s in ours.tokenize(texts, max_length=limit)] for limit in (8, 64, 512)}

    def work(number: int) -> bool:
        limit = (8, 64, 512)[number % 3]
        return [s.ids.tolist() for s in ours.tokenize(texts, max_length=limit)] == expected[limit]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(24)))


FORK = """
import os, sys
from pathlib import Path
from tokenizer_folders import TEXTS, spec
from bothways.tokens import Tokenizer

tokenizer = Tokenizer.from_folder(Path(sys.argv[1]), spec())
before = [s.ids.tolist() for s in tokenizer.tokenize(TEXTS * 20)]
child = os.fork()
after = [s.ids.tolist() for s in tokenizer.tokenize(TEXTS * 20)]
if not child:
    os._exit(before != after)
assert before == after
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_tokenizes_without_hanging_or_warning(bert_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(bert_folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_windows_messages_name_the_text(bert: Tokenizer) -> None:
    with pytest.raises(InputError, match="text 7 has a lone surrogate"):
        bert.windows("\ud800", number=7)
    with pytest.raises(InputError, match="text 7 is a list"):
        bert.windows(["a", "b"], number=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{"max_tokens": 2}, {"model_max_length": 2}, {"max_seq_length": 1}])
def test_a_checkpoint_without_room_for_a_text_is_refused(tmp_path: Path, limits: dict[str, int]) -> None:
    own = {key: value for key, value in limits.items() if key == "model_max_length"}
    folder = save(train_bert(False), tmp_path, class_name=None, model_type="bert", old_files=False, **own)
    network = spec(max_tokens=limits.get("max_tokens", 512))
    network = replace(network, embed=EmbedSpec(max_tokens=limits.get("max_seq_length")))
    with pytest.raises(CheckpointError, match="leaves no room for a text beside 2 special tokens; correct model_max"):
        Tokenizer.from_folder(folder, network)


def test_a_text_without_tokens_is_refused_where_the_network_needs_one(bert_folder: Path, tmp_path: Path) -> None:
    import shutil

    from tokenizers import Tokenizer as Raw

    folder = tmp_path / "bare"
    shutil.copytree(bert_folder, folder)
    settings = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(settings | {"post_processor": None}))
    bare = Tokenizer.from_folder(folder, spec())
    assert Raw.from_file(str(folder / "tokenizer.json")).encode("").ids == []
    for spans in (True, False):
        with pytest.raises(InputError, match="text 4 has no tokens, and the network needs one at least"):
            bare.tokenize(["a", ""], first=3, spans=spans)
    with pytest.raises(InputError, match="text 2 has no tokens"):
        bare.windows("", number=2)


LONG = "the quick brown fox jumps over the lazy dog " * 3


@pytest.mark.parametrize("given", [LONG, (LONG, "a short one"), ("a short one", LONG), (LONG, LONG[10:])])
@pytest.mark.parametrize("spans", [True, False])
def test_left_cuts_the_beginning_as_transformers_does(bert_folder: Path, given: Text, spans: bool) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(bert_folder, truncation_side="left")
    texts = (given,) if isinstance(given, str) else given
    wanted = theirs(*texts, truncation=True, max_length=16)
    ours = Tokenizer.from_folder(bert_folder, spec())
    [found] = ours.tokenize([given], max_length=16, truncation="left", spans=spans)
    assert found.ids.tolist() == wanted["input_ids"]
    assert found.token_types.tolist() == wanted["token_type_ids"]
    assert found.truncated == len(theirs(*texts)["input_ids"]) - 16


def test_the_fast_path_cuts_the_beginning_too(bert_folder: Path) -> None:
    ours = Tokenizer.from_folder(bert_folder, spec())
    before = ours.tokenize([LONG, "short"], max_length=16, truncation="left", spans=False)
    ours.tokenize([LONG] * 400, spans=False)  # so much that the fast path is made
    after = ours.tokenize([LONG, "short"], max_length=16, truncation="left", spans=False)
    assert [s.ids.tolist() for s in before] == [s.ids.tolist() for s in after]


def test_the_checkpoints_truncation_side_holds_where_the_call_says_nothing(bert_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "left"
    shutil.copytree(bert_folder, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"truncation_side": "left"}))
    usual, left = (Tokenizer.from_folder(each, spec()) for each in (bert_folder, folder))
    [wanted] = usual.tokenize([LONG], max_length=16, truncation="left")
    [found] = left.tokenize([LONG], max_length=16)
    assert found.ids.tolist() == wanted.ids.tolist() != usual.tokenize([LONG], max_length=16)[0].ids.tolist()


def test_ids_of_the_models_own_become_the_texts_sequence(bert_folder: Path) -> None:
    ours = Tokenizer.from_folder(bert_folder, spec())
    [whole] = ours.tokenize(["the quick brown fox"])
    for ids in (whole.ids.tolist(), whole.ids.tolist()[1:-1]):  # with special tokens around them, and without
        assert ours.from_ids(ids).ids.tolist() == whole.ids.tolist()
    cut, [wanted] = ours.from_ids(ours.whole(LONG).ids.tolist(), max_length=16), ours.tokenize([LONG], max_length=16)
    assert (cut.ids.tolist(), cut.truncated) == (wanted.ids.tolist(), wanted.truncated)
    with pytest.raises(InputTooLong, match="text 3 has .* tokens, max_length is 16"):
        ours.from_ids(ours.whole(LONG).ids.tolist(), max_length=16, truncation=False, number=3)
    with pytest.raises(InputError, match=r"text 0 has the token id 100257, and this model's vocabulary has \d+ ids"):
        ours.from_ids([100257])


def test_whole_keeps_all_tokens_of_a_text(bert_folder: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = Tokenizer.from_folder(bert_folder, spec()), AutoTokenizer.from_pretrained(bert_folder)
    assert ours.whole(LONG * 20).ids.tolist() == theirs(LONG * 20, verbose=False)["input_ids"]
    assert ours.whole(LONG, special=False).ids.tolist() == theirs(LONG, add_special_tokens=False)["input_ids"]
