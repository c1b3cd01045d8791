"""The task fill_mask: the tokens of transformers' pipeline for every family, and logits made by hand."""

from __future__ import annotations

import logging
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from task_checkpoints import MODEL_TYPES, pipeline, save_task, unigrams, word_pieces
from tokenizer_folders import train_roberta
from tokenizers import decoders, models

from bothways import Encoder, Fill, compat
from bothways.errors import CheckpointError, InputError, TaskError
from bothways.tasks.fill_mask import _Spelling, best_tokens
from bothways.tasks.plan import carry_out
from bothways.vocabulary import Vocabulary


@pytest.fixture(scope="module", params=MODEL_TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp(request.param), request.param, "masked_lm")


@pytest.fixture(scope="module")
def model(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder)


@pytest.fixture(scope="module")
def mask(model: Encoder) -> str:
    assert model.tokenizer.vocabulary.mask is not None
    return model.tokenizer.vocabulary.mask[0]


def texts_with(mask: str) -> list[str]:
    return [
        f"The quick brown {mask} jumps over the lazy dog.",
        f"{mask}",
        f"Zwölf 🎉{mask} Boxkämpfer, the naïve fox!",
        f"the {mask} brown{mask} dog {mask}.",
        f"  spaces {mask}  and\ttabs ראש {mask}",
    ]


def assert_same(fills: list[Fill], expected: list[Any]) -> None:
    rows = expected if expected and isinstance(expected[0], list) else [expected]
    flat = [(mask, theirs) for mask, row in enumerate(rows) for theirs in row]
    assert [(f.mask, f.id, f.token, f.text) for f in fills] == [
        (mask, theirs["token"], theirs["token_str"], theirs["sequence"]) for mask, theirs in flat
    ]
    np.testing.assert_allclose([f.score for f in fills], [theirs["score"] for _, theirs in flat], atol=5e-4)


def test_tokens_are_those_of_transformers(model: Encoder, folder: Path, mask: str) -> None:
    oracle = pipeline("fill-mask", folder)
    texts = texts_with(mask)
    for text, fills in zip(texts, model.fill_mask(texts), strict=True):
        assert_same(fills, oracle(text))
    assert_same(model.fill_mask(texts[0], top_k=17)[0], oracle(texts[0], top_k=17))


def test_targets_are_those_of_transformers(
    model: Encoder, folder: Path, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = pipeline("fill-mask", folder)
    targets = ["the", "fox", "quick", "the", "unheardofword"]
    with caplog.at_level(logging.WARNING, "bothways"):
        found = model.fill_mask(texts_with(mask), targets=targets, top_k=10)
    assert "the target 'unheardofword' is several tokens in this vocabulary: its first one" in caplog.text
    for text, fills in zip(texts_with(mask), found, strict=True):
        assert_same(fills, oracle(text, targets=targets, top_k=10))
    assert_same(model.fill_mask(texts_with(mask)[0], targets="fox")[0], oracle(texts_with(mask)[0], targets="fox"))


def test_targets_without_tokens_are_left_out_or_refused(
    model: Encoder, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bothways"):
        assert len(model.fill_mask(mask, targets=["", "fox"])[0]) == 1
    assert "the target '' is no token in this vocabulary: it is left out" in caplog.text
    for none in ([], [""]):
        with pytest.raises(InputError, match="targets has no token of the vocabulary"):
            model.fill_mask(mask, targets=none)


def test_targets_are_logged_where_they_were_given_and_never_by_a_plan(
    model: Encoder, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        plan = model.plan("fill_mask", targets=["the", "", "my secret text"])
        fills = list(carry_out(plan, [mask]))
    assert not caplog.records
    assert fills == model.fill_mask(mask, targets=["the", "", "my secret text"])
    assert "the target 'my secret text' is several tokens" in caplog.text
    caplog.clear()
    model.fill_mask(mask, targets=["the", "secret " * 1000])
    assert len(caplog.text) < 500


def test_a_pipeline_says_once_which_targets_are_not_tokens(
    folder: Path, mask: str, caplog: pytest.LogCaptureFixture
) -> None:
    compat.pipeline("fill-mask", str(folder))(mask, targets=["the", ""])
    assert caplog.text.count("the target '' is no token in this vocabulary: it is left out") == 1


def test_fills_never_depend_on_company(model: Encoder, mask: str) -> None:
    texts = texts_with(mask)
    alone = [model.fill_mask(text)[0] for text in texts]
    assert model.fill_mask(texts * 4) == alone * 4
    assert list(model.fill_mask(iter(texts))) == alone
    assert model.fill_mask([]) == []


def test_a_text_without_a_mask_is_an_error_that_names_it(model: Encoder, mask: str) -> None:
    with pytest.raises(InputError, match=rf"text 1 has no {re.escape(mask)}; write .* where a token is missing"):
        model.fill_mask([mask, "no mask"])
    late = "the fox " * 60 + mask
    with pytest.raises(InputError, match=rf"text 0 has no {re.escape(mask)} among the 48 tokens that are read of it"):
        model.fill_mask(late)
    with pytest.raises(InputError, match="text 0 has .* tokens, the model takes 48"):
        model.fill_mask(late, truncation=False)
    stream = model.fill_mask(iter([mask, "no mask"]))
    assert len(next(stream)) == 5
    with pytest.raises(InputError, match="text 1 has no"):
        next(stream)


def test_a_tokenizer_without_a_mask_is_an_error(tmp_path: Path) -> None:
    save_task(tmp_path, "bert", "masked_lm")
    path = tmp_path / "tokenizer_config.json"
    path.write_text(path.read_text().replace("{", '{"mask_token": "no such token", ', 1))
    with pytest.raises(TaskError, match="can't fill_mask: its tokenizer names no mask token"):
        Encoder.from_pretrained(tmp_path).fill_mask("[MASK]")


def test_probabilities_worked_out_by_hand() -> None:
    logits = np.log(np.array([1, 4, 2, 4, 5], np.float32))
    np.testing.assert_allclose(best_tokens(logits, 3, None), [[4, 5 / 16], [1, 4 / 16], [3, 4 / 16]], rtol=1e-6)
    assert best_tokens(logits, 2, None)[:, 0].tolist() == [4, 1]
    assert best_tokens(logits, 2, np.array([0, 1, 3]))[:, 0].tolist() == [1, 3]
    np.testing.assert_allclose(best_tokens(logits, 9, np.array([0, 2])), [[2, 2 / 16], [0, 1 / 16]], rtol=1e-6)
    assert len(best_tokens(logits, None, None)) == 5


def test_scores_that_are_no_numbers_are_an_error_that_names_the_text(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForMaskedLM

    save_task(tmp_path, "distilbert", "masked_lm")
    network = AutoModelForMaskedLM.from_pretrained(tmp_path)
    torch.nn.init.constant_(network.vocab_projector.bias, -torch.inf)
    network.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="text 0 gets scores that are NaN or infinite"):
        Encoder.from_pretrained(tmp_path).fill_mask(["[MASK]", "a [MASK]"])


def test_many_masks_are_filled_as_each_alone(model: Encoder, mask: str) -> None:
    texts = [f"the quick {mask} fox {n} {mask}" for n in range(80)]
    together = model.fill_mask(texts, top_k=3)
    assert [together[n] for n in (0, 33, 79)] == [model.fill_mask(texts[n], top_k=3)[0] for n in (0, 33, 79)]


def gemmas() -> Any:
    """The kind of newer models: pieces with bytes for what they don't spell."""
    pieces = ["<unk>", *(f"<0x{n:02X}>" for n in range(256)), "▁", "▁the", "fox", "\u2581\u2581", "é", "▁dog", "\ufffd"]
    raw = tokenizers.Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [], byte_fallback=True))
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens(["<mask>", "<s>"])
    return raw


def bare() -> Any:
    raw = word_pieces()
    raw.decoder = None
    return raw


#: Tokenizers whose decoders take tokens apart.
SPELLED = {"word pieces": word_pieces, "byte-level": train_roberta, "unigrams": unigrams, "gemma": gemmas, "bare": bare}


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("kind", SPELLED)
def test_texts_are_spelled_as_by_decoding_all_their_tokens(kind: str, special: bool) -> None:
    raw = SPELLED[kind]()
    vocabulary, size, source = Vocabulary(raw, {}), raw.get_vocab_size(), random.Random(0)
    marks = list(vocabulary.special.values())
    for length in [0, 0, 1, 1, 2, 3, 5, 9] * 6:
        spelling = _Spelling(vocabulary, special=special, apart=True)
        for _ in range(2):
            before, after = ([source.randrange(size) for _ in range(length)] for _ in range(2))
            before = source.choice([[], marks[:1], marks]) + before
            tokens = source.sample(range(size + 3), 200)  # the last of them only the network knows
            expected = [vocabulary.text([*before, token, *after], special=special) for token in tokens]
            assert spelling.texts(before, tokens, after) == expected


def test_a_text_is_not_decoded_for_every_token(model: Encoder, mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    text = Vocabulary.text

    def counted(self: Vocabulary, ids: list[int], *, special: bool) -> str:
        decoded.append(len(ids))
        return text(self, ids, special=special)

    monkeypatch.setattr(Vocabulary, "text", counted)
    fills = model.fill_mask(f"{mask} " * 40, top_k=None)[0]
    # Parts of characters are decoded with all that is around them; these are few in vocabularies that aren't tiny.
    parts = sum(fill.token.endswith("\ufffd") or not fill.token for fill in fills)
    assert sum(count > 2 for count in decoded) <= parts + 40 * 4


def test_a_decoder_that_looks_at_neighbours_is_given_all_tokens(tmp_path: Path) -> None:
    save_task(tmp_path, "bert", "masked_lm")
    path = tmp_path / "tokenizer.json"
    raw = tokenizers.Tokenizer.from_file(str(path))
    raw.decoder = decoders.Sequence([decoders.WordPiece(), decoders.Fuse(), decoders.Replace("] f", "] F")])
    raw.save(str(path))
    model = Encoder.from_pretrained(tmp_path)
    fills = model.fill_mask("the [MASK] fox [MASK]", targets=["fox", "the"])[0]
    assert {(fill.mask, fill.token): fill.text for fill in fills} == {
        (0, "fox"): "[CLS] the fox fox [MASK] [SEP]",
        (0, "the"): "[CLS] the the fox [MASK] [SEP]",
        (1, "fox"): "[CLS] the [MASK] Fox fox [SEP]",
        (1, "the"): "[CLS] the [MASK] Fox the [SEP]",
    }
