"""What sets families' heads apart: poolings, biases, names, and classes whose heads have the same tensors."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_checkpoints import edit_config, save_model

pytest.importorskip("bothways._native", reason="the native engine is not built")
from sweep import check, draw_sequences, ours
from task_checkpoints import HEADS as KINDS

from bothways import families
from bothways.checkpoint import open_checkpoint
from bothways.errors import CheckpointError, UnsupportedModel

MASKED_LM = "AutoModelForMaskedLM"


def compare(folder: Path, model_type: str, kind: str, **config: Any) -> None:
    check(save_model(folder, model_type, KINDS[kind], **config), folder, kind, random.Random(5))


def rename(folder: Path, change: Callable[[str], str]) -> None:
    """Store a checkpoint's tensors under other names."""
    path = folder / "model.safetensors"
    save_file({change(name): array for name, array in load_file(path).items()}, path)


def scores(folder: Path, kind: str) -> list[Any]:
    checkpoint = open_checkpoint(folder)
    return list(ours(checkpoint, kind, draw_sequences(checkpoint.spec, random.Random(6))))


@pytest.mark.parametrize("pooling", ["late", "bos", "mean"])
def test_euroberts_classifier_pools_as_config_json_says(tmp_path: Path, pooling: str) -> None:
    compare(tmp_path, "eurobert", "classification", classifier_pooling=pooling, num_labels=3)
    expected = scores(tmp_path, "classification")
    edit_config(tmp_path, classifier_pooling=None, clf_pooling=pooling)  # as the checkpoints' own code spells it
    np.testing.assert_equal(scores(tmp_path, "classification"), expected)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_modernberts_classifier_pools_and_activates_as_config_json_says(
    tmp_path: Path, pooling: str, activation: str
) -> None:
    compare(tmp_path, "modernbert", "classification", classifier_pooling=pooling, classifier_activation=activation)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", ["classifier_bias", "norm_bias", "decoder_bias"])
def test_modernberts_heads_have_the_biases_of_config_json(tmp_path: Path, flag: str, kind: str) -> None:
    compare(tmp_path, "modernbert", kind, **{"decoder_bias": False, flag: True})


def test_words_that_name_no_pooling_are_refused(tmp_path: Path) -> None:
    for model_type, known in (("eurobert", "late, bos, mean"), ("modernbert", "cls, mean")):
        save_model(tmp_path, model_type)
        for value in ("max", 3):
            edit_config(tmp_path, classifier_pooling=value)
            with pytest.raises(UnsupportedModel, match=f"classifier_pooling {value!r} is not supported, only {known}"):
                open_checkpoint(tmp_path)
    save_model(tmp_path, "eurobert")
    edit_config(tmp_path, classifier_pooling="mean", clf_pooling="late")
    with pytest.raises(CheckpointError, match="classifier_pooling 'mean' but clf_pooling 'late'"):
        open_checkpoint(tmp_path)


def test_modernberts_class_tells_three_heads_with_the_same_tensors_apart(tmp_path: Path) -> None:
    save_model(tmp_path, "modernbert", KINDS["classification"], num_labels=2, decoder_bias=False)
    for kind in ("classification", "token_classification", "question_answering"):
        edit_config(tmp_path, architectures=[KINDS[kind].replace("AutoModel", "ModernBert")])
        assert set(open_checkpoint(tmp_path).spec.heads) == {kind}
    for unclear in (None, ["ModernBertModel"], ["ModernBertForMultipleChoice"]):
        edit_config(tmp_path, architectures=unclear)
        assert not open_checkpoint(tmp_path).spec.heads


def test_a_decoder_of_borrowed_tensors_alone_needs_its_class(tmp_path: Path) -> None:
    """A tied EuroBERT's masked language model has no tensor that its base network lacks."""
    save_model(tmp_path, "eurobert", tie_word_embeddings=True)
    assert not open_checkpoint(tmp_path).spec.heads
    edit_config(tmp_path, architectures=None)
    assert not open_checkpoint(tmp_path).spec.heads
    edit_config(tmp_path, architectures=["EuroBertForMaskedLM"])
    assert set(open_checkpoint(tmp_path).spec.heads) == {"masked_lm"}


@pytest.mark.parametrize("model_type", ["albert", "electra", "ernie", "gte", "modernbert", "mpnet", "roformer"])
def test_a_tied_decoder_is_found_under_every_name(tmp_path: Path, model_type: str) -> None:
    save_model(tmp_path, model_type, MASKED_LM)
    expected = scores(tmp_path, "masked_lm")
    family = families.find(open_checkpoint(tmp_path).config)
    word, decoder = family.names["embeddings.word"], family.stand_ins["embeddings.word"]
    rename(tmp_path, lambda name: decoder if name.endswith(word) else name)
    assert decoder in load_file(tmp_path / "model.safetensors")
    np.testing.assert_equal(scores(tmp_path, "masked_lm"), expected)
    other = dict(family.head_stand_ins)
    rename(tmp_path, lambda name: other.get(name, name) if name.endswith("bias") else name)
    np.testing.assert_equal(scores(tmp_path, "masked_lm"), expected)


def test_a_bias_that_config_json_does_not_call_for_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, "modernbert", MASKED_LM, classifier_bias=True)
    edit_config(tmp_path, classifier_bias=False)
    with pytest.raises(CheckpointError, match="masked lm head's head.dense.bias is not called for by config.json"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["classification", "token_classification", "masked_lm"])
@pytest.mark.parametrize(
    ("model_type", "prefixes"), [("gte", ("gte.", "new.")), ("nomic_bert", ("nomic_bert.", "bert."))]
)
def test_heads_are_found_beside_either_set_of_names(
    tmp_path: Path, model_type: str, prefixes: tuple[str, str], kind: str
) -> None:
    """transformers writes the names of the checkpoints' own code; its modules' names are the others."""
    from safetensors.torch import save_file

    model = save_model(tmp_path, model_type, KINDS[kind])
    expected = scores(tmp_path, kind)
    for old, new in (prefixes, prefixes[::-1]):
        rename(tmp_path, lambda name, old=old, new=new: new + name.removeprefix(old) if name.startswith(old) else name)
        np.testing.assert_equal(scores(tmp_path, kind), expected)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    np.testing.assert_equal(scores(tmp_path, kind), expected)


@pytest.mark.parametrize("model_type", ["gte", "nomic_bert"])
def test_question_answering_of_checkpoints_own_code(tmp_path: Path, model_type: str) -> None:
    """transformers has no class for it; it is a product over every token, as BERT's is."""
    save_model(tmp_path, model_type)
    hidden = scores(tmp_path, "hidden")
    source = np.random.default_rng(3)
    weight, bias = source.standard_normal((2, 12)).astype(np.float32), source.standard_normal(2).astype(np.float32)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {"qa_outputs.weight": weight, "qa_outputs.bias": bias}, path)
    edit_config(tmp_path, architectures=["NewForQuestionAnswering"])
    for (rows, *_), (start, end) in zip(hidden, scores(tmp_path, "question_answering"), strict=True):
        np.testing.assert_allclose(np.stack([start, end], 1), rows.astype(np.float64) @ weight.T + bias, atol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "class_name", "found"),
    [
        *((name, "AutoModelForPreTraining", {"masked_lm"}) for name in ("albert", "ernie", "megatron-bert")),
        ("electra", "AutoModelForPreTraining", set()),
        *((name, "AutoModelForNextSentencePrediction", set()) for name in ("ernie", "megatron-bert")),
        *((name, "AutoModelForMultipleChoice", set()) for name in ("albert", "electra", "ernie", "megatron-bert")),
        *((name, "AutoModelForMultipleChoice", set()) for name in ("modernbert", "mpnet", "roformer")),
    ],
)
def test_other_heads_tensors_do_not_disturb(tmp_path: Path, model_type: str, class_name: str, found: set[str]) -> None:
    """A head of sentence order, next sentences, replaced tokens or multiple choice is known to be none of ours."""
    model = save_model(tmp_path, model_type, class_name)
    assert set(open_checkpoint(tmp_path).spec.heads) == found
    model.base_model.save_pretrained(tmp_path / "base")
    for mine, base in zip(scores(tmp_path, "hidden"), scores(tmp_path / "base", "hidden"), strict=True):
        np.testing.assert_array_equal(mine[0], base[0])
