"""Every family reads config.json and names tensors as transformers does, and refuses what it can't compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import ReferenceEngine
from safetensors.numpy import load_file
from tiny_checkpoints import TINY, make_model, save_model

from bothways import families
from bothways.batch import pack
from bothways.checkpoint import open_checkpoint
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.spec import ACTIVATIONS, Spec
from bothways.tokens import Sequence

MODEL_TYPES = sorted(TINY)
UNTYPED = ("deberta-v2", "distilbert", "eurobert", "modernbert", "mpnet")  # without token types
OWN_CODE = ("eurobert", "gte", "nomic_bert")  # whose checkpoints carry the code that first computed them


def config_of(model_type: str, **changes: Any) -> dict[str, Any]:
    act = {"distilbert": "activation", "modernbert": "hidden_activation"}.get(model_type, "hidden_act")
    known = TINY[model_type] | {"model_type": model_type, act: "gelu", "layer_norm_eps": 1e-5, "pad_token_id": 1}
    return {key: value for key, value in (known | changes).items() if value is not ...}


def spec_of(model_type: str, **changes: Any) -> Spec:
    config = config_of(model_type, **changes)
    return families.find(config).spec(config)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_parameter_of_transformers_has_one_canonical_name(tmp_path: Path, model_type: str) -> None:
    save_model(tmp_path, model_type)
    checkpoint = open_checkpoint(tmp_path)
    family = families.find(checkpoint.config)
    stored = load_file(tmp_path / "model.safetensors")
    stored.pop("encoder.embed_positions.weight", None)  # RoFormer's sines and cosines
    keys = checkpoint.spec.tensor_shapes()
    if family.other and family.checkpoint_name("layers.0.query.weight") not in stored:
        family = family.other
    names = {key: family.checkpoint_name(key) for key in keys}
    assert set(names.values()) == stored.keys()
    assert sum(tensor.array.size for tensor in checkpoint.tensors.values()) == sum(
        array.size for array in stored.values()
    )
    for key, name in names.items():
        number, count = family.part(key)
        expected = np.split(stored[name], count)[number]
        np.testing.assert_array_equal(checkpoint.tensors[key].float32(), expected, err_msg=key)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_spec_equals_the_modules_of_transformers(tmp_path: Path, model_type: str) -> None:
    from torch import nn

    model = save_model(tmp_path, model_type)
    spec = open_checkpoint(tmp_path).spec
    norms = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    norms |= {module.variance_epsilon for module in model.modules() if "RMSNorm" in type(module).__name__}
    tables = {tuple(module.weight.shape) for module in model.modules() if isinstance(module, nn.Embedding)}
    assert norms == {spec.norm_eps}
    assert (spec.vocab_size, spec.embedding_width) in tables
    assert ((spec.num_positions, spec.embedding_width) in tables) == spec.position_table
    assert ((spec.num_token_types, spec.embedding_width) in tables) == (model_type not in UNTYPED)
    assert any("LayerNorm" in type(module).__name__ for module in model.modules()) != spec.rms_norm
    assert (spec.num_layers, spec.num_heads, spec.head_size, spec.inner_size) == (2, 3, 4, 20)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_hidden_states_of_the_naive_network_equal_transformers(tmp_path: Path, model_type: str) -> None:
    import torch

    model = save_model(tmp_path, model_type)
    checkpoint = open_checkpoint(tmp_path)
    ids = np.array([5, 9, 1, 30, 7], np.int32)  # the 1 is RoBERTa's padding id inside a text
    batch = pack([Sequence(ids, np.zeros_like(ids))], checkpoint.spec)
    with torch.no_grad():
        theirs = model(torch.from_numpy(ids.astype(np.int64))[None], torch.ones(1, len(ids))).last_hidden_state[0]
    np.testing.assert_allclose(ReferenceEngine(checkpoint).encode(batch).rows, theirs.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("padding_id", [0, 1, 5])
def test_roberta_counts_positions_from_the_padding_id(model_type: str, padding_id: int) -> None:
    torch = pytest.importorskip("torch")
    spec = spec_of(model_type, pad_token_id=padding_id)
    embeddings = make_model(model_type, pad_token_id=padding_id).embeddings
    ids = torch.tensor([[9, 8, padding_id, 7]])
    rows = embeddings.create_position_ids_from_input_ids(ids, padding_id)[0].tolist()
    first = spec.position_offset
    assert rows == [first, first + 1, spec.padding_id, first + 2]
    assert spec.max_tokens == 16 - padding_id - 1


def test_bert_and_distilbert_count_positions_from_zero() -> None:
    for model_type in ("bert", "distilbert"):
        spec = spec_of(model_type)
        assert (spec.position_offset, spec.padding_id, spec.max_tokens) == (0, None, 16)


def test_eps_comes_from_the_config() -> None:
    assert spec_of("bert", layer_norm_eps=0.25).norm_eps == 0.25
    assert spec_of("roberta", layer_norm_eps=1e-5).norm_eps == 1e-5
    assert spec_of("bert", layer_norm_eps=...).norm_eps == 1e-12
    assert spec_of("distilbert", layer_norm_eps=0.25).norm_eps == 1e-12
    with pytest.raises(CheckpointError, match="no layer_norm_eps"):
        spec_of("roberta", layer_norm_eps=...)


def test_distilbert_understands_both_spellings_of_its_sizes() -> None:
    other = {"dim": ..., "hidden_size": 24, "n_heads": ..., "num_attention_heads": 4, "n_layers": ...}
    spec = spec_of("distilbert", **other, num_hidden_layers=5)
    assert (spec.hidden_size, spec.num_heads, spec.num_layers) == (24, 4, 5)
    with pytest.raises(CheckpointError, match="dim 12 but hidden_size 24"):
        spec_of("distilbert", hidden_size=24)


def _formulas() -> dict[str, Any]:
    """The activations by definition, in float64."""
    from math import erf, pi, sqrt

    def gelu_tanh(x: Any, root: float) -> Any:
        return 0.5 * x * (1 + np.tanh(root * (x + 0.044715 * x**3)))

    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    return {
        "gelu": lambda x: x * 0.5 * (1 + np.vectorize(erf)(x / sqrt(2))),
        "gelu_tanh": lambda x: gelu_tanh(x, sqrt(2 / pi)),
        "gelu_fast": lambda x: gelu_tanh(x, 0.7978845608),
        "quick_gelu": lambda x: x * sigmoid(1.702 * x),
        "relu": lambda x: np.maximum(x, 0),
        "silu": lambda x: x * sigmoid(x),
        "tanh": np.tanh,
    }


def test_activations_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers.activations import ACT2FN

    formulas = _formulas()
    assert sorted(formulas) == sorted(ACTIVATIONS)
    x = np.linspace(-6, 6, 301)
    supported = set()
    for name in ACT2FN:
        try:
            ours = spec_of("bert", hidden_act=name).activation
        except UnsupportedModel:
            continue
        theirs = ACT2FN[name](torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(formulas[ours](x), theirs, rtol=0, atol=1e-14, err_msg=name)
        supported.add(ours)
    assert supported == set(ACTIVATIONS)


def test_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedModel, match=r"hidden_act 'mish'.*computes gelu, .*tanh"):
        spec_of("bert", hidden_act="mish")
    with pytest.raises(UnsupportedModel, match="activation 'gelu_10'"):
        spec_of("distilbert", activation="gelu_10")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"position_embedding_type": "relative"}, "position_embedding_type 'relative'"),
        ({"position_embedding_type": "absolute_key"}, "only '(absolute|rope)' is"),
        ({"position_embedding_type": 3}, "position_embedding_type 3"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is True"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "own code for AutoModel"),
        ({"auto_map": {"AutoConfig": "org/name--c.C", "AutoModelForMaskedLM": "m.M"}}, "for AutoConfig, AutoModelForM"),
        ({"pruned_heads": {"1": [0, 2]}}, "pruned_heads"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_another_network_is_refused(model_type: str, change: dict[str, Any], match: str) -> None:
    if "auto_map" in change and model_type in OWN_CODE:
        assert spec_of(model_type, **change) == spec_of(model_type)
        return
    with pytest.raises(UnsupportedModel, match=match):
        spec_of(model_type, **change)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_only_bert_has_relative_keys(kind: str) -> None:
    for model_type in MODEL_TYPES:
        if model_type == "bert":
            assert spec_of("bert", position_embedding_type=kind).relative_vectors
        else:
            with pytest.raises(UnsupportedModel, match=f"position_embedding_type '{kind}'"):
                spec_of(model_type, position_embedding_type=kind)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_values_that_change_nothing_are_accepted(model_type: str) -> None:
    plain = spec_of(model_type)
    harmless = {
        "position_embedding_type": "rope" if model_type == "gte" else "absolute",
        "is_decoder": False,
        "add_cross_attention": None,
        "auto_map": {"AutoTokenizer": ["t.T", None]},
        "pruned_heads": {"0": []},
        "use_cache": True,
        "hidden_dropout_prob": 0.5,
        "chunk_size_feed_forward": 3,
        "sinusoidal_pos_embds": True,
        "dtype": "float16",
    }
    assert spec_of(model_type, **harmless) == plain


def test_uneven_heads_are_refused() -> None:
    for model_type, key in (
        ("bert", "num_attention_heads"),
        ("roberta", "num_attention_heads"),
        ("distilbert", "n_heads"),
    ):
        with pytest.raises(UnsupportedModel, match="hidden size 12 can't be shared evenly by 5"):
            spec_of(model_type, **{key: 5})


@pytest.mark.parametrize("model_type", ["gpt2", "deberta", "Bert", ""])
def test_unknown_model_type_is_refused_with_the_supported_ones(model_type: str) -> None:
    known = "albert, bert, camembert, deberta-v2, distilbert, .*, xlm-roberta"
    with pytest.raises(UnsupportedModel, match=f"{model_type!r}.*{known}"):
        families.find({"model_type": model_type})


@pytest.mark.parametrize(("config", "match"), [({}, "no model_type"), ({"model_type": ["bert"]}, "must be a string")])
def test_missing_or_misspelt_model_type_is_an_error(config: dict[str, Any], match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        families.find(config)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_missing_key_is_named(model_type: str) -> None:
    for key in TINY[model_type]:
        with pytest.raises(CheckpointError, match=f"config.json has no {key}"):
            spec_of(model_type, **{key: ...})
        with pytest.raises(CheckpointError, match=f"config.json has no {key}"):
            spec_of(model_type, **{key: None})


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("value", ["12", 12.0, True, [], {}, -1, 0, 2**40, 10**400])
def test_every_wrong_size_is_named(model_type: str, value: Any) -> None:
    for key in TINY[model_type]:
        if key == "type_vocab_size" and value == 0 and value is not False and model_type in OWN_CODE:
            continue
        with pytest.raises(CheckpointError, match=f"config.json: {key} is "):
            spec_of(model_type, **{key: value})


@pytest.mark.parametrize("value", ["1e-5", True, -1e-12, 2, float("nan"), float("inf"), [1e-5]])
def test_wrong_eps_is_named(value: Any) -> None:
    with pytest.raises(CheckpointError, match="config.json: layer_norm_eps is"):
        spec_of("roberta", layer_norm_eps=value)


def test_other_wrong_types_are_named() -> None:
    with pytest.raises(CheckpointError, match="hidden_act is 3"):
        spec_of("bert", hidden_act=3)
    with pytest.raises(CheckpointError, match="auto_map is 'x'"):
        spec_of("bert", auto_map="x")
    with pytest.raises(CheckpointError, match="pruned_heads is"):
        spec_of("bert", pruned_heads=[1])


def test_too_many_layers_are_an_error_and_no_flood() -> None:
    with pytest.raises(CheckpointError, match="num_hidden_layers is 1000000000"):
        spec_of("bert", num_hidden_layers=10**9)


def test_position_table_without_room_for_a_token_is_an_error() -> None:
    assert spec_of("roberta", max_position_embeddings=3).max_tokens == 1
    with pytest.raises(CheckpointError, match="leaves no room for a token"):
        spec_of("roberta", max_position_embeddings=2)


def test_electra_projects_embeddings_of_another_width_only() -> None:
    assert spec_of("electra", embedding_size=12).embedding_size is None
    assert spec_of("electra", embedding_size=24).embedding_size == 24


def test_ernie_reads_task_types_where_they_are_used() -> None:
    assert spec_of("ernie", task_type_vocab_size=3).num_task_types == 0
    assert spec_of("ernie", use_task_id=True, task_type_vocab_size=3).num_task_types == 3
    with pytest.raises(CheckpointError, match="no task_type_vocab_size"):
        spec_of("ernie", use_task_id=True)
    with pytest.raises(CheckpointError, match="use_task_id is 1"):
        spec_of("ernie", use_task_id=1)


def test_albert_shares_layers_as_transformers_does() -> None:
    assert spec_of("albert").stored_layers == (0, 0)
    assert spec_of("albert", num_hidden_layers=5, num_hidden_groups=2).stored_layers == (0, 0, 0, 1, 1)
    with pytest.raises(CheckpointError, match="num_hidden_groups is 3, which is more than its 2 layers"):
        spec_of("albert", num_hidden_groups=3)
    with pytest.raises(UnsupportedModel, match="inner_group_num is 2"):
        spec_of("albert", inner_group_num=2)
