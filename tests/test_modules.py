"""The sentence-transformers files: both generations of spelling, and everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bothways.embed_spec import DenseSpec, EmbedSpec
from bothways.errors import BothwaysError, CheckpointError, UnsupportedModel
from bothways.modules import network_folder, read_embed_spec

OLD = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules.pooling."


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return folder


def modules(*names: str, prefix: str = OLD) -> list[dict[str, Any]]:
    paths = ["" if n == 0 else f"{n}_{name}" for n, name in enumerate(names)]
    return [{"idx": n, "name": str(n), "path": path, "type": prefix + names[n]} for n, path in enumerate(paths)]


def pooled(folder: Path, config: dict[str, Any], prefix: str = OLD) -> EmbedSpec:
    files = {"modules.json": modules("Transformer", "Pooling", prefix=prefix), "1_Pooling/config.json": config}
    return read_embed_spec(write(folder, files))


def with_dense(folder: Path, config: dict[str, Any], *names: str) -> EmbedSpec:
    names = names or ("Transformer", "Pooling", "Dense")
    files = {"modules.json": modules(*names), "1_Pooling/config.json": {}}
    files[f"{names.index('Dense')}_Dense/config.json"] = config
    return read_embed_spec(write(folder, files))


def test_the_real_checkpoint_is_read(minilm: Path) -> None:
    spec = read_embed_spec(minilm)
    assert spec.pooling == ("mean",)
    assert spec.pooling_from == "1_Pooling/config.json"
    assert spec.normalize
    assert spec.max_tokens == 256
    assert spec.similarity == "cosine"
    assert spec.prompts == {"query": "", "document": ""}


def test_without_files_the_pooling_is_the_mean_and_says_so(tmp_path: Path) -> None:
    spec = read_embed_spec(tmp_path)
    assert spec.pooling == ("mean",)
    assert spec.pooling_from == "default: the checkpoint has no modules.json"
    assert not spec.normalize
    assert spec.max_tokens is None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ("mean",)),
        ({"pooling_mode_lasttoken": True, "pooling_mode_cls_token": True}, ("cls", "lasttoken")),
        ({"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_max_tokens": True}, ("max", "mean_sqrt_len")),
        ({"pooling_mode_weightedmean_tokens": True}, ("weightedmean",)),
        ({"pooling_mode_mean_tokens": False}, ("mean",)),
        ({}, ("mean",)),
    ],
)
def test_old_pooling_flags_are_read(tmp_path: Path, flags: dict[str, bool], expected: tuple[str, ...]) -> None:
    spec = pooled(tmp_path, {"word_embedding_dimension": 8, **flags})
    assert spec.pooling == expected
    assert spec.include_prompt


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", ("cls",)),
        ("mean_sqrt_len_tokens", ("mean_sqrt_len",)),
        (["mean", "cls"], ("mean", "cls")),
    ],
)
def test_new_pooling_names_are_read_in_their_order(tmp_path: Path, mode: Any, expected: tuple[str, ...]) -> None:
    config = {"embedding_dimension": 8, "pooling_mode": mode, "include_prompt": False, "pooling_mode_max_tokens": True}
    spec = pooled(tmp_path, config, prefix=NEW)
    assert spec.pooling == expected
    assert not spec.include_prompt


def test_dense_normalize_and_dropout_are_read(tmp_path: Path) -> None:
    config: dict[str, Any] = {"in_features": 8, "out_features": 4, "bias": False}
    config["activation_function"] = "torch.nn.modules.linear.Identity"
    spec = with_dense(tmp_path, config, "Transformer", "Pooling", "Dropout", "Dense", "Normalize")
    assert spec.dense == (DenseSpec("3_Dense", 8, 4, False, "identity"),)
    assert spec.normalize


def test_dense_defaults_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    spec = with_dense(tmp_path, {"in_features": 8, "out_features": 4})
    assert spec.dense == (DenseSpec("2_Dense", 8, 4, True, "tanh"),)


def test_settings_are_read(tmp_path: Path) -> None:
    settings = {
        "prompts": {"query": "query: ", "passage": "passage: ", "document": None},
        "default_prompt_name": "passage",
        "similarity_fn_name": "dot",
        "truncate_dim": 64,
    }
    spec = read_embed_spec(write(tmp_path, {"config_sentence_transformers.json": settings}))
    assert spec.prompts == {"query": "query: ", "passage": "passage: ", "document": ""}
    assert spec.default_prompt == "passage"
    assert spec.similarity == "dot"
    assert spec.dimensions == 64


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
def test_length_limit_and_lower_casing_are_read(tmp_path: Path, name: str) -> None:
    spec = read_embed_spec(write(tmp_path, {name: {"max_seq_length": 128, "do_lower_case": True}}))
    assert spec.max_tokens == 128
    assert spec.lower_case


@pytest.mark.parametrize("kind", ["WordEmbeddings", "LSTM", "LayerNorm", "Router"])
def test_a_module_that_is_not_computed_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"uses the module '.*{kind}'; supported are Transformer, MLM"):
        read_embed_spec(write(tmp_path, {"modules.json": modules("Transformer", kind)}))


@pytest.mark.parametrize(
    "names", [(), ("Pooling",), ("Transformer", "Transformer"), ("Transformer", "Pooling", "Pooling")]
)
def test_an_order_that_is_not_computed_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedModel, match="supported are one Transformer, one Pooling"):
        read_embed_spec(write(tmp_path, {"modules.json": modules(*names)}))


@pytest.mark.parametrize(
    "names",
    [
        ("Transformer", "Dense", "Pooling"),
        ("Transformer", "Normalize", "Pooling"),
        ("Transformer", "Dropout", "Dense", "Pooling"),
        ("Transformer", "Normalize"),
        ("Transformer", "Dense"),
    ],
)
def test_a_pooling_must_follow_the_network(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedModel, match="supported is a Pooling right behind the Transformer"):
        read_embed_spec(write(tmp_path, {"modules.json": modules(*names)}))


def test_dropout_between_network_and_pooling_changes_nothing(tmp_path: Path) -> None:
    names = modules("Transformer", "Dropout", "Pooling")
    files = {"modules.json": names, "2_Pooling/config.json": {"pooling_mode": "cls"}}
    assert read_embed_spec(write(tmp_path, files)).pooling == ("cls",)


@pytest.mark.parametrize("key", ["word_embedding_dimension", "embedding_dimension"])
def test_a_pooling_of_another_networks_size_is_refused(tmp_path: Path, key: str) -> None:
    files = {"modules.json": modules("Transformer", "Pooling"), "1_Pooling/config.json": {key: 8}}
    assert read_embed_spec(write(tmp_path, files), 8).pooling == ("mean",)
    with pytest.raises(CheckpointError, match=f"'{key}': 8, but config.json gives the network 12 values"):
        read_embed_spec(tmp_path, 12)


def test_a_network_in_a_subfolder_is_found_there(tmp_path: Path) -> None:
    entries = modules("Transformer")
    entries[0]["path"] = "0_Transformer"
    write(tmp_path, {"modules.json": entries, "0_Transformer/sentence_bert_config.json": {"max_seq_length": 77}})
    assert network_folder(tmp_path) == tmp_path / "0_Transformer"
    assert read_embed_spec(tmp_path).max_tokens == 77


def test_without_modules_the_network_is_in_the_checkpoints_own_folder(tmp_path: Path) -> None:
    assert network_folder(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation_function": "my.module.Activation"}, "'my.module.Activation'; supported are torch's Identity"),
        ({"activation_function": "torch.nn.modules.activation.Softmax"}, "Softmax"),
        ({"module_input_name": "token_embeddings"}, "supported is 'sentence_embedding'"),
    ],
)
def test_a_dense_option_that_is_not_computed_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        with_dense(tmp_path, {"in_features": 8, "out_features": 4, **config})


def test_dense_behind_normalize_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="behind a Normalize"):
        with_dense(tmp_path, {"in_features": 8, "out_features": 4}, "Transformer", "Pooling", "Normalize", "Dense")


def test_normalize_of_token_vectors_is_refused(tmp_path: Path) -> None:
    files = {"modules.json": modules("Transformer", "Pooling", "Normalize"), "1_Pooling/config.json": {}}
    files["2_Normalize/config.json"] = {}
    assert read_embed_spec(write(tmp_path, files)).normalize
    files["2_Normalize/config.json"] = {"module_input_name": "token_embeddings"}
    with pytest.raises(UnsupportedModel, match="token_embeddings"):
        read_embed_spec(write(tmp_path, files))


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../b", "..", "C:\\x", "..\\x", "a\0b"])
def test_a_module_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    entries = modules("Transformer", "Pooling")
    entries[1]["path"] = path
    with pytest.raises(CheckpointError, match="must stay inside the checkpoint's folder"):
        read_embed_spec(write(tmp_path, {"modules.json": entries}))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules.json": "[{"}, "modules.json is not readable as JSON"),
        ({"modules.json": "{}"}, "modules.json holds a JSON dict; it must be a list"),
        ({"modules.json": [3]}, "has the entry 3"),
        ({"modules.json": [{"type": 3}]}, "'type' string"),
        ({"modules.json": modules("Transformer", "Pooling")}, "1_Pooling/config.json is missing"),
        ({"sentence_bert_config.json": "[1]"}, "it must be an object"),
        ({"sentence_bert_config.json": {"max_seq_length": "9"}}, "'max_seq_length': '9'; it must be a JSON integer"),
        ({"sentence_bert_config.json": {"max_seq_length": True}}, "'max_seq_length': True"),
        ({"sentence_bert_config.json": {"max_seq_length": 0}}, "it must be at least 1"),
        ({"config_sentence_transformers.json": "nonsense"}, "is not readable as JSON"),
        ({"config_sentence_transformers.json": {"prompts": {"a": 1}}}, "has prompt 'a': 1"),
        ({"config_sentence_transformers.json": {"default_prompt_name": "b"}}, "names the default prompt 'b'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_embed_spec(write(tmp_path, files))


def test_an_unknown_similarity_is_refused(tmp_path: Path) -> None:
    files = {"config_sentence_transformers.json": {"similarity_fn_name": "maxsim"}}
    with pytest.raises(UnsupportedModel, match="similarity 'maxsim'; supported are cosine, dot"):
        read_embed_spec(write(tmp_path, files))


@pytest.mark.parametrize("config", [{"pooling_mode": 3}, {"pooling_mode": []}, {"pooling_mode_cls_token": "yes"}])
def test_a_damaged_pooling_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="pooling_mode"):
        pooled(tmp_path, config)


def test_an_unknown_pooling_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="has the pooling 'attention'; supported are cls, max, mean"):
        pooled(tmp_path, {"pooling_mode": "attention"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
FILES += tuple(f"{n}_{name}/config.json" for n, name in ((1, "Pooling"), (2, "Dense"), (3, "Normalize")))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_gives_a_spec_or_an_error_of_ours(tmp_path: Path, data: st.DataObject) -> None:
    contents: dict[str, Any] = {
        "modules.json": modules("Transformer", "Pooling", "Dense", "Normalize"),
        "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "default_prompt_name": None, "truncate_dim": None},
        "1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": True, "pooling_mode_cls_token": True},
        "2_Dense/config.json": {"in_features": 8, "out_features": 4, "activation_function": "torch.nn.Tanh"},
        "3_Normalize/config.json": {"module_input_name": "sentence_embedding"},
    }
    name = data.draw(st.sampled_from(FILES))
    target = contents[name]
    if data.draw(st.booleans()):
        contents[name] = data.draw(VALUES)
    elif isinstance(target, list):
        target[data.draw(st.integers(0, 3))][data.draw(st.sampled_from(["path", "type"]))] = data.draw(VALUES)
    else:
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(VALUES)
    try:
        assert isinstance(read_embed_spec(write(tmp_path, contents)), EmbedSpec)
    except BothwaysError as error:
        assert str(tmp_path) in str(error)
