"""Heads: found in a checkpoint, and the scores of transformers from them, for every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import make_batch, rows_of
from sweep import FAMILIES
from task_checkpoints import HEADS as KINDS
from tiny_checkpoints import edit_config, save_model

from bothways.checkpoint import open_checkpoint
from bothways.engines.base import Engine
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.families.heads import linear, norm
from bothways.heads import activation, head, softmax
from bothways.safetensors import Tensor
from bothways.spec import ACTIVATIONS, HeadSpec, StepSpec

PAIRS = [(name, kind) for name in FAMILIES for kind in FAMILIES[name].kinds if kind != "hidden"]


@pytest.mark.parametrize(("model_type", "kind"), PAIRS)
def test_scores_are_those_of_transformers(
    tmp_path: Path, make_engine: Callable[..., Engine], model_type: str, kind: str
) -> None:
    import torch

    labels = {} if kind in ("masked_lm", "question_answering") else {"num_labels": 3}
    model = save_model(tmp_path, model_type, KINDS[kind], **labels)
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint.spec.heads) == [kind]
    assert checkpoint.surplus == ()
    engine = make_engine(checkpoint)
    batch = make_batch(checkpoint.spec, (5, 1, 9))
    spec = checkpoint.spec.heads[kind]
    rows = engine.encode(batch, rows="all" if spec.rows == "all" else "first").rows
    found = head(engine, checkpoint, spec)(rows)
    if spec.late_mean:
        found = np.stack([part.mean(axis=0) for part in rows_of(batch, found)])
    each = spec.rows == "all" and not spec.late_mean
    for n, (start, end) in enumerate(zip(batch.starts, batch.starts[1:], strict=False)):
        inputs = {"input_ids": torch.tensor(batch.ids[None, start:end].astype(np.int64))}
        if checkpoint.spec.num_token_types:
            inputs["token_type_ids"] = torch.tensor(batch.token_types[None, start:end].astype(np.int64))
        with torch.inference_mode():
            expected = model(**inputs)
        if kind == "question_answering":
            logits = torch.stack([expected.start_logits[0], expected.end_logits[0]], dim=-1)
        else:
            logits = expected.logits[0] if each else expected.logits
        mine = found[start:end] if each else found[n : n + 1]
        np.testing.assert_allclose(mine, logits.numpy(), atol=1e-4)


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "gelu_fast", "quick_gelu", "relu", "silu", "tanh"])
def test_the_activation_inside_a_masked_lm_head_is_the_networks(
    tmp_path: Path, make_engine: Callable[..., Engine], hidden_act: str
) -> None:
    import torch

    model = save_model(tmp_path, "bert", KINDS["masked_lm"], hidden_act=hidden_act)
    checkpoint = open_checkpoint(tmp_path)
    engine = make_engine(checkpoint)
    batch = make_batch(checkpoint.spec, (7,))
    found = head(engine, checkpoint, checkpoint.spec.heads["masked_lm"])(engine.encode(batch).rows)
    with torch.inference_mode():
        ids, types = (torch.tensor(x[None].astype(np.int64)) for x in (batch.ids, batch.token_types))
        expected = model(input_ids=ids, token_type_ids=types).logits[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_rows_scores_do_not_depend_on_the_others(tmp_path: Path, make_engine: Callable[..., Engine]) -> None:
    save_model(tmp_path, "roberta", KINDS["masked_lm"])
    checkpoint = open_checkpoint(tmp_path)
    scores = head(make_engine(checkpoint), checkpoint, checkpoint.spec.heads["masked_lm"])
    rows = np.random.default_rng(3).standard_normal((40, 12)).astype(np.float32)
    together = scores(rows)
    for n in (0, 7, 39):
        np.testing.assert_array_equal(scores(rows[n : n + 1])[0], together[n])


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 127, 128, 129, 768, 1025])
def test_a_norms_bits_depend_on_the_row_alone(tmp_path: Path, make_engine: Callable[..., Engine], size: int) -> None:
    """However many rows are normed at once, wherever a row stands among them and wherever they lie in memory."""
    save_model(tmp_path, "roberta", KINDS["masked_lm"])
    checkpoint = open_checkpoint(tmp_path)
    random = np.random.default_rng(size)
    weight, bias, rows = (random.standard_normal(shape).astype(np.float32) for shape in (size, size, (150, size)))
    checkpoint = replace(checkpoint, raw={"w": Tensor("F32", weight), "b": Tensor("F32", bias)})
    normed = head(make_engine(checkpoint), checkpoint, HeadSpec("all", (StepSpec("w", "b", norm=True),)))
    together = normed(rows)
    wide = rows.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt(wide.var(axis=1, keepdims=True) + checkpoint.spec.norm_eps) * weight + bias
    np.testing.assert_allclose(together, expected, atol=1e-4)
    for begin, end in ((0, 1), (3, 4), (63, 65), (1, 150), (149, 150)):
        np.testing.assert_array_equal(normed(rows[begin:end]), together[begin:end])


def test_steps_may_lack_a_bias(tmp_path: Path, make_engine: Callable[..., Engine]) -> None:
    save_model(tmp_path, "roberta", KINDS["masked_lm"])
    checkpoint = open_checkpoint(tmp_path)
    rows = np.random.default_rng(4).standard_normal((3, 12)).astype(np.float32)
    steps = (linear("lm_head.dense", "relu", bias=False), norm("lm_head.layer_norm", bias=False))
    found = head(make_engine(checkpoint), checkpoint, HeadSpec("all", steps))(rows)
    wide = np.maximum(rows.astype(np.float64) @ checkpoint.raw["lm_head.dense.weight"].float32().T, 0)
    wide = (wide - wide.mean(axis=1, keepdims=True)) / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(found, wide * checkpoint.raw["lm_head.layer_norm.weight"].float32(), atol=1e-5)


def test_the_class_in_config_json_tells_like_heads_apart(tmp_path: Path) -> None:
    save_model(tmp_path, "bert", KINDS["classification"])
    assert set(open_checkpoint(tmp_path).spec.heads) == {"classification"}
    edit_config(tmp_path, architectures=["BertForTokenClassification"])
    assert set(open_checkpoint(tmp_path).spec.heads) == {"token_classification"}
    for unclear in (None, ["BertModel"], ["BertForMultipleChoice"]):
        edit_config(tmp_path, architectures=unclear)
        assert not open_checkpoint(tmp_path).spec.heads


def test_without_a_class_the_only_head_that_fits_is_taken(tmp_path: Path) -> None:
    save_model(tmp_path, "roberta", KINDS["token_classification"])
    edit_config(tmp_path, architectures=None)
    assert set(open_checkpoint(tmp_path).spec.heads) == {"token_classification"}


def test_a_decoder_that_is_not_tied_must_be_stored(tmp_path: Path) -> None:
    save_model(tmp_path, "bert", KINDS["masked_lm"])
    assert "masked_lm" in open_checkpoint(tmp_path).spec.heads
    edit_config(tmp_path, tie_word_embeddings=False)
    assert not open_checkpoint(tmp_path).spec.heads


def test_pretraining_checkpoints_have_a_masked_lm_head(tmp_path: Path) -> None:
    save_model(tmp_path, "bert", "AutoModelForPreTraining")
    assert set(open_checkpoint(tmp_path).spec.heads) == {"masked_lm"}


def test_labels_and_problem_come_from_config_json(tmp_path: Path) -> None:
    save_model(tmp_path, "distilbert", KINDS["classification"], id2label={0: "no", 1: "yes", 2: "so-so"})
    spec = open_checkpoint(tmp_path).spec.heads["classification"]
    assert (spec.labels, spec.problem) == (("no", "yes", "so-so"), "single_label")
    for written, read in (
        ("multi_label_classification", "multi_label"),
        ("regression", "regression"),
        ("single_label_classification", "single_label"),
    ):
        edit_config(tmp_path, problem_type=written, id2label=None)
        spec = open_checkpoint(tmp_path).spec.heads["classification"]
        assert (spec.labels, spec.problem) == (("LABEL_0", "LABEL_1", "LABEL_2"), read)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": {"0": "a"}}, "gives 3 scores, but the number of labels in id2label is 1"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "id2label has the numbers 0, 1, 3; they must be 0 to 2"),
        ({"id2label": ["a", "b", "c"]}, "it must be an object of numbers and names"),
        ({"id2label": {"0": "a", "1": "b", "2": 3}}, "it must be an object of numbers and names"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking', it must be one of single_label_classification"),
        ({"architectures": "Bert"}, "architectures is 'Bert', it must be a list of class names"),
    ],
)
def test_a_config_that_contradicts_its_head_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    save_model(tmp_path, "distilbert", KINDS["classification"], num_labels=3)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)


def test_a_question_answering_head_has_two_scores(tmp_path: Path) -> None:
    save_model(tmp_path, "bert", KINDS["question_answering"], num_labels=3)
    with pytest.raises(CheckpointError, match="gives 3 scores, but the number of scores"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "sigmoid"),
        ({"config": {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}}, "identity"),
        ({"config": {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}}, "tanh"),
        (
            {
                "config": {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"},
                "sentence": {"activation_fn": "torch.nn.modules.linear.Identity"},
            },
            "identity",
        ),
    ],
)
def test_the_activation_of_a_cross_encoder_is_looked_up(tmp_path: Path, files: dict[str, Any], expected: str) -> None:
    save_model(tmp_path, "bert", KINDS["classification"], num_labels=1)
    edit_config(tmp_path, **files.get("config", {}))
    if "sentence" in files:
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(files["sentence"]))
    assert open_checkpoint(tmp_path).spec.rank_activation == expected


def test_a_cross_encoders_activation_that_is_code_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, "bert", KINDS["classification"], num_labels=1)
    edit_config(tmp_path, sentence_transformers={"activation_fn": "my_module.Activation"})
    with pytest.raises(UnsupportedModel, match=r"'activation_fn': 'my_module.Activation'; supported are torch's"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_torchs(name: str) -> None:
    import torch
    from transformers.activations import ACT2FN

    torch_name = {"gelu_tanh": "gelu_pytorch_tanh"}.get(name, name)
    row = np.linspace(-9, 9, 101, dtype=np.float32)
    expected = ACT2FN[torch_name](torch.tensor(row)).numpy()
    np.testing.assert_allclose(activation(name)(row), expected, atol=2e-6)


def test_softmax_survives_large_logits() -> None:
    found = softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0]])
