"""Single tokens: the mask and the unknown token, and how tokens spell a text, beside transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizer_folders import TEXTS, save, spec, train_bert, train_roberta, train_xlm_roberta

from bothways.tokens import Tokenizer

MAKERS: dict[str, Any] = {
    "bert": (lambda: train_bert(False), "BertTokenizer"),
    "roberta": (train_roberta, "RobertaTokenizer"),
    "xlm-roberta": (train_xlm_roberta, "XLMRobertaTokenizer"),
}


@pytest.mark.parametrize(
    ("model_type", "old_files"), [("bert", False), ("bert", True), ("roberta", False), ("xlm-roberta", False)]
)
def test_tokens_spell_the_texts_of_transformers(tmp_path: Path, model_type: str, old_files: bool) -> None:
    from transformers import AutoTokenizer

    make, class_name = MAKERS[model_type]
    save(make(), tmp_path, class_name=class_name, model_type=model_type, old_files=old_files)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    vocabulary = Tokenizer.from_folder(tmp_path, spec()).vocabulary
    assert vocabulary.mask == (reference.mask_token, reference.mask_token_id)
    assert vocabulary.unknown_id == reference.unk_token_id
    assert vocabulary.marks_continuation == (model_type == "bert")
    for text in TEXTS:
        ids = reference(text)["input_ids"]
        assert vocabulary.text(ids, special=True) == reference.decode(ids)
        assert vocabulary.text(ids, special=False) == reference.decode(ids, skip_special_tokens=True)
        assert vocabulary.split(text) == reference(text, add_special_tokens=False)["input_ids"]
    for token in range(200):
        assert vocabulary.text([token], special=True) == reference.decode([token])
        assert vocabulary.token(token) == reference.convert_ids_to_tokens(token)


def test_tokens_go_by_the_names_that_the_files_give_them(tmp_path: Path) -> None:
    save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    assert Tokenizer.from_folder(tmp_path, spec()).vocabulary.mask == ("[MASK]", 4)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"mask_token": {"content": "the"}}))
    found = Tokenizer.from_folder(tmp_path, spec()).vocabulary.mask
    assert found is not None
    assert found[0] == "the"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": "no such token"}))
    assert Tokenizer.from_folder(tmp_path, spec()).vocabulary.mask is None
