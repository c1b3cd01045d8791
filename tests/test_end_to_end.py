"""Every family from text to vectors, with a tokenizer of its own kind: the numbers of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoints import save_model
from tokenizer_folders import PAIRS, TEXTS, save, train_bert, train_roberta, train_xlm_roberta

from bothways import Encoded, Encoder, InputError

#: model type: (what trains its tokenizer, the tokenizer's class in transformers)
TOKENIZERS: dict[str, tuple[Callable[[], Any], str]] = {
    "bert": (lambda: train_bert(False), "BertTokenizer"),
    "distilbert": (lambda: train_bert(True), "DistilBertTokenizer"),
    "roberta": (train_roberta, "RobertaTokenizer"),
    "xlm-roberta": (train_xlm_roberta, "XLMRobertaTokenizer"),
    "camembert": (train_xlm_roberta, "CamembertTokenizer"),
}
LENGTH = 64  # tokens, fewer than some of the texts have
ADDED = 3  # tokens put behind the trained vocabulary, for which the word table is resized


def make_folder(folder: Path, model_type: str, kind: str = "AutoModel", dtype: str = "float32") -> Path:
    """Save a random network and a tokenizer trained for it, as one checkpoint."""
    train, class_name = TOKENIZERS[model_type]
    raw = train()
    raw.add_tokens([f"addedword{n}" for n in range(ADDED)])
    save(raw, folder, class_name=class_name, model_type=model_type, old_files=False)
    sizes: dict[str, Any] = {"vocab_size": raw.get_vocab_size(), "max_position_embeddings": LENGTH}
    if "roberta" in model_type or model_type == "camembert":
        # Two rows more than tokens: positions start behind the padding id, which is 1.
        sizes |= {"max_position_embeddings": LENGTH + 2, "type_vocab_size": 1, "pad_token_id": 1}
    save_model(folder, model_type, kind, dtype, **sizes)
    return folder


def expected(folder: Path, texts: list[Any]) -> tuple[Any, Any]:
    """What transformers makes of the same folder and the same texts."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    columns = tuple(map(list, zip(*texts, strict=True))) if isinstance(texts[0], tuple) else (texts,)
    inputs = tokenizer(*columns, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.inference_mode():
        return inputs, model(**inputs)


def check(found: Encoded, inputs: Any, outputs: Any) -> None:
    mask = inputs["attention_mask"].numpy()
    hidden = outputs.last_hidden_state.numpy() * mask[:, :, None]
    np.testing.assert_array_equal(found.input_ids, inputs["input_ids"].numpy())
    np.testing.assert_array_equal(found.attention_mask, mask)
    np.testing.assert_allclose(found.last_hidden_state, hidden, rtol=0, atol=1e-4 * max(1, np.abs(hidden).max()))


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("model_type", TOKENIZERS)
def test_every_family_equals_transformers_from_the_text_on(
    tmp_path: Path, load: Callable[..., Encoder], model_type: str, texts: list[Any]
) -> None:
    encoder = load(make_folder(tmp_path, model_type))
    inputs, outputs = expected(tmp_path, texts)
    found = encoder.encode(texts, max_length=LENGTH)
    check(found, inputs, outputs)
    assert any(found.truncated)
    if model_type == "distilbert":
        assert found.pooler_output is None and found.pooler_reason
    else:
        np.testing.assert_allclose(found.pooler_output, outputs.pooler_output.numpy(), rtol=0, atol=1e-4)
    with pytest.raises(InputError, match=f"at most {LENGTH}"):
        encoder.encode("text", max_length=LENGTH + 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("model_type", TOKENIZERS)
def test_half_precision_files_of_every_family_equal_transformers(
    tmp_path: Path, load: Callable[..., Encoder], model_type: str, dtype: str
) -> None:
    encoder = load(make_folder(tmp_path, model_type, dtype=dtype))
    check(encoder.encode(TEXTS), *expected(tmp_path, TEXTS))


@pytest.mark.parametrize("model_type", TOKENIZERS)
def test_a_checkpoint_with_a_head_and_no_pooler_equals_transformers(
    tmp_path: Path, load: Callable[..., Encoder], model_type: str
) -> None:
    encoder = load(make_folder(tmp_path, model_type, "AutoModelForMaskedLM"))
    found = encoder.encode(TEXTS)
    check(found, *expected(tmp_path, TEXTS))
    assert found.pooler_output is None
    assert "pooler" in found.pooler_reason


def test_a_resized_vocabulary_equals_transformers(tmp_path: Path, load: Callable[..., Encoder]) -> None:
    import torch
    from transformers import AutoModel

    make_folder(tmp_path, "bert")
    model = AutoModel.from_pretrained(tmp_path)
    model.resize_token_embeddings(model.config.vocab_size + 61)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.normal_(0.0, 0.3)
    model.save_pretrained(tmp_path)
    texts = ["one addedword0 and addedword2", *TEXTS]
    encoder = load(tmp_path)
    found = encoder.encode(texts)
    assert encoder.spec.vocab_size == found.input_ids.max() + 1 + 61
    check(found, *expected(tmp_path, texts))


@pytest.mark.parametrize("model_type", TOKENIZERS)
def test_without_sentence_transformers_files_the_embedding_is_the_mean(
    tmp_path: Path, load: Callable[..., Encoder], model_type: str
) -> None:
    encoder = load(make_folder(tmp_path, model_type))
    inputs, outputs = expected(tmp_path, TEXTS)
    mask = inputs["attention_mask"].numpy()[:, :, None]
    mean = (outputs.last_hidden_state.numpy() * mask).sum(axis=1) / mask.sum(axis=1)
    np.testing.assert_allclose(encoder.embed(TEXTS), mean, rtol=0, atol=1e-4)
    assert encoder.spec.embed.pooling == ("mean",)
    assert encoder.spec.embed.pooling_from == "default: the checkpoint has no modules.json"
