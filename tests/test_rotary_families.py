"""The families with rotary positions: every spelling of their config.json and of their tensors, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import ReferenceEngine
from safetensors.torch import save_file
from test_families import spec_of
from tiny_checkpoints import edit_config, save_model

from bothways import families
from bothways.batch import pack
from bothways.checkpoint import open_checkpoint
from bothways.errors import CheckpointError, UnsupportedModel
from bothways.spec import Rotary
from bothways.tokens import Sequence

ROTARY = ("eurobert", "gte", "modernbert", "nomic_bert", "roformer")

#: nomic-embed-text's config.json, as the checkpoints' own code reads it, in the sizes of the tiny checkpoint.
NOMIC: dict[str, Any] = {
    "model_type": "nomic_bert",
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "activation_function": "swiglu",
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "n_embd": 12,
    "n_head": 3,
    "n_inner": 20,
    "n_layer": 2,
    "n_positions": 16,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 37,
}


def nomic(**changes: Any) -> Any:
    config = {key: value for key, value in (NOMIC | changes).items() if value is not ...}
    return families.find(config).spec(config)


@pytest.mark.parametrize("model_type", ["nomic_bert", "gte"])
def test_both_sets_of_names_open_to_the_same_tensors(tmp_path: Path, model_type: str) -> None:
    """transformers writes the names of the checkpoints' own code; its modules' names are the others."""
    model = save_model(tmp_path / "own", model_type)
    model.config.save_pretrained(tmp_path / "modules")
    save_file(model.state_dict(), tmp_path / "modules" / "model.safetensors")
    own, modules = (open_checkpoint(tmp_path / name) for name in ("own", "modules"))
    assert own.tensors.keys() == modules.tensors.keys()
    assert own.surplus == modules.surplus == ()
    for key, tensor in own.tensors.items():
        np.testing.assert_array_equal(tensor.float32(), modules.tensors[key].float32(), err_msg=key)


def test_part_of_a_tensor_with_the_wrong_shape_is_named_as_a_whole(tmp_path: Path) -> None:
    save_model(tmp_path, "modernbert")
    edit_config(tmp_path, intermediate_size=24)
    with pytest.raises(CheckpointError, match=r"layers.0.mlp.Wi.weight is \(40, 12\), not \(48, 12\)"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("model_type", ROTARY)
def test_heads_that_can_not_be_paired_are_refused(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match="the head size must be even"):
        spec_of(model_type, num_attention_heads=4)


@pytest.mark.parametrize("model_type", ROTARY)
def test_positions_without_end_are_an_error(model_type: str) -> None:
    assert spec_of(model_type, max_position_embeddings=2**17).max_tokens == 2**17
    with pytest.raises(CheckpointError, match="the longest text is 131073 tokens, it must be 131072 at most"):
        spec_of(model_type, max_position_embeddings=2**17 + 1)


def test_nomics_own_config_says_what_transformers_config_says() -> None:
    assert nomic() == spec_of("nomic_bert", hidden_act="silu", layer_norm_eps=1e-12)
    assert nomic(activation_function="geglu").activation == "gelu"
    assert nomic(rotary_emb_base=500.0).rotary == (Rotary(500.0),) * 2


def test_nomics_angles_that_depend_on_the_length_are_not_reached() -> None:
    assert nomic(n_positions=8192).max_tokens == 8192
    assert nomic(n_positions=8192, rotary_scaling_factor=2).max_tokens == 2048
    assert nomic(n_positions=8192, rotary_scaling_factor=2, max_trained_positions=512).max_tokens == 512


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"prenorm": True}, "prenorm True is not supported, only False is"),
        ({"qkv_proj_bias": True}, "qkv_proj_bias True"),
        ({"mlp_fc1_bias": True}, "mlp_fc1_bias True"),
        ({"rotary_emb_fraction": 0.5}, "rotary_emb_fraction 0.5"),
        ({"rotary_emb_interleaved": True}, "rotary_emb_interleaved True"),
        ({"moe_every_n_layers": 2}, "moe_every_n_layers 2"),
        ({"use_rms_norm": True}, "use_rms_norm True"),
        ({"activation_function": "gelu"}, "activation_function 'gelu'.*swiglu and geglu"),
    ],
)
def test_other_networks_in_nomics_words_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(UnsupportedModel, match=match):
        nomic(**change)


def test_nomics_own_keys_are_named_where_they_are_missing() -> None:
    for key in ("n_embd", "n_head", "n_inner", "n_layer", "n_positions", "layer_norm_epsilon", "type_vocab_size"):
        with pytest.raises(CheckpointError, match=f"config.json has no {key}|config.json has no hidden_size"):
            nomic(**{key: ...})


def test_gtes_own_config_is_understood_and_its_variants_refused() -> None:
    assert families.find({"model_type": "new"}) is families.find({"model_type": "gte"})
    own = {
        "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
        "layer_norm_type": "layer_norm",
        "logn_attention_scale": False,
        "pack_qkv": True,
        "position_embedding_type": "rope",
        "rope_theta": 20000,
    }
    spec = spec_of("gte", **own)
    assert spec.rotary == (Rotary(20000.0),) * 2
    with pytest.raises(UnsupportedModel, match="logn_attention_scale True"):
        spec_of("gte", **own | {"logn_attention_scale": True})
    with pytest.raises(UnsupportedModel, match="layer_norm_type 'rms_norm'"):
        spec_of("gte", **own | {"layer_norm_type": "rms_norm"})
    with pytest.raises(UnsupportedModel, match="position_embedding_type 'absolute'"):
        spec_of("gte", **own | {"position_embedding_type": "absolute"})


def test_ntk_scaling_stretches_base_and_frequencies() -> None:
    """As gte's own code has it: base * factor, and every frequency divided by factor ** (2 / head size)."""
    scaled = spec_of("gte", rope_theta=500000, rope_scaling={"type": "ntk", "factor": 2.0})
    assert scaled.rotary == (Rotary(1_000_000.0, 2.0**-0.5),) * 2
    with pytest.raises(CheckpointError, match="no factor"):
        spec_of("gte", rope_scaling={"type": "ntk"})


@pytest.mark.parametrize("model_type", ["eurobert", "gte", "nomic_bert"])
def test_rotary_parameters_are_checked(model_type: str) -> None:
    for parameters in ({"rope_type": "yarn", "rope_theta": 100.0}, {"rope_type": "dynamic", "factor": 2.0}):
        with pytest.raises(UnsupportedModel, match=f"of type {parameters['rope_type']!r}"):
            spec_of(model_type, rope_parameters=parameters)
    for base in ("1000", 0, True, float("nan"), [1]):
        with pytest.raises(CheckpointError, match="rope_theta is"):
            spec_of(model_type, rope_theta=base)
    with pytest.raises(CheckpointError, match="rope_parameters is 7"):
        spec_of(model_type, rope_parameters=7)


def test_modernbert_understands_old_and_new_spellings_of_its_layers() -> None:
    old = {"num_hidden_layers": 4, "global_attn_every_n_layers": 2, "global_rope_theta": 50.0, "local_rope_theta": 5}
    spec = spec_of("modernbert", local_attention=10, **old)
    assert spec.windows == (None, 5, None, 5)
    assert spec.rotary == (Rotary(50.0), Rotary(5.0), Rotary(50.0), Rotary(5.0))
    full, sliding = "full_attention", "sliding_attention"
    new = {
        "layer_types": [sliding, full],
        "rope_parameters": {full: {"rope_type": "default", "rope_theta": 7.0}, sliding: {"rope_theta": 3.0}},
    }
    spec = spec_of("modernbert", **new)
    assert spec.windows == (64, None)
    assert spec.rotary == (Rotary(3.0), Rotary(7.0))
    assert spec_of("modernbert", num_hidden_layers=4).windows == (None, 64, 64, None)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"layer_types": ["full_attention"]}, CheckpointError, "layer_types is .* a list of 2"),
        ({"layer_types": ["full_attention", "chunked"]}, UnsupportedModel, "layer_types has 'chunked'"),
        ({"layer_types": ["full_attention", ["x"]]}, UnsupportedModel, "layer_types has"),
        ({"rope_parameters": [1]}, CheckpointError, "rope_parameters is"),
        ({"attention_bias": 1}, CheckpointError, "attention_bias is 1, it must be true or false"),
        ({"norm_eps": "small"}, CheckpointError, "norm_eps is"),
        ({"local_attention": 0}, CheckpointError, "local_attention is 0"),
    ],
)
def test_modernberts_wrong_values_are_named(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        spec_of("modernbert", **change)


def test_modernberts_biases_follow_its_config() -> None:
    assert spec_of("modernbert", attention_bias=True, mlp_bias=True).unbiased == {"norm"}
    assert spec_of("modernbert", norm_bias=True, mlp_bias=True).unbiased == {
        "query",
        "key",
        "value",
        "attention_output",
    }


def test_eurobert_shares_keys_evenly_or_not_at_all() -> None:
    assert spec_of("eurobert").key_heads == 3
    assert spec_of("eurobert", num_key_value_heads=1).tensor_shapes()["layers.0.key.weight"] == (4, 12)
    with pytest.raises(CheckpointError, match="num_key_value_heads is 2.*by 3 attention heads"):
        spec_of("eurobert", num_key_value_heads=2)
    with pytest.raises(UnsupportedModel, match="head_dim 8 is not supported, only 4"):
        spec_of("eurobert", head_dim=8)


def test_roformers_variants_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="rotary_value is true"):
        spec_of("roformer", rotary_value=True)
    with pytest.raises(UnsupportedModel, match="norm_type 'rms_norm'"):
        spec_of("roformer", norm_type="rms_norm")


def test_a_window_keeps_far_tokens_out(tmp_path: Path) -> None:
    """With windows in every layer, a token further away than all of them together changes nothing."""
    save_model(tmp_path, "modernbert", local_attention=4, layer_types=["sliding_attention"] * 2)
    checkpoint = open_checkpoint(tmp_path)
    ids = np.arange(5, 17, dtype=np.int32)
    other = ids.copy()
    other[11] = 3

    def rows(ids: Any) -> Any:
        return ReferenceEngine(checkpoint).encode(pack([Sequence(ids, np.zeros_like(ids))], checkpoint.spec)).rows

    changed = np.abs(rows(ids) - rows(other)).max(axis=1) > 0
    assert changed.tolist() == [False] * 7 + [True] * 5
