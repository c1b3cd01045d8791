"""compat.SentenceTransformer beside the real one: the same call, the same result or the same error."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_hub import Hub
from same import assert_both, assert_same
from texts import SENTENCES

from bothways import Encoder
from bothways.compat import CrossEncoder, SentenceTransformer, SimilarityFunction, loading
from bothways.errors import BothwaysError, InputError, ModelNotFound

TEXTS = ["A cat sat on the mat.", "", "Zwölf Boxkämpfer 🎉", "the quick brown fox " * 20, "a"]


@pytest.fixture(scope="module")
def ours(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm))


@pytest.fixture(scope="module")
def full(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that uses every setting of its sentence-transformers files."""
    from sentence_transformers import SentenceTransformer as Real
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    network = Transformer(str(bert_folder))
    modules = [network, Pooling(20, "mean"), Dense(20, 16), Normalize()]
    prompts = {"query": "ask: ", "passage": "the passage: ", "": "unnamed "}
    folder = tmp_path_factory.mktemp("full")
    made = Real(modules=modules, prompts=prompts, default_prompt_name="passage", similarity_fn_name="dot", device="cpu")
    made.truncate_dim = 10
    made.max_seq_length = 30
    made.save_pretrained(str(folder))
    return folder


CALLS: list[tuple[Any, dict[str, Any]]] = [
    *((texts, {}) for texts in ("a text", "", TEXTS, tuple(TEXTS), TEXTS[:1], [], (), np.array(TEXTS))),
    *((texts, {"convert_to_tensor": True}) for texts in ("a text", TEXTS, [])),
    *((texts, {"convert_to_numpy": False}) for texts in ("a text", TEXTS, [])),
    (TEXTS, {"convert_to_numpy": False, "convert_to_tensor": True}),
    *((texts, {"normalize_embeddings": True, "truncate_dim": 5}) for texts in ("a text", TEXTS, [])),
    *((TEXTS, {"truncate_dim": size}) for size in (1, 7, 384, 1000, 0)),
    *((SENTENCES, {"precision": precision}) for precision in ("int8", "uint8", "binary", "ubinary", "float32", None)),
    *(("a text", {"precision": precision}) for precision in ("int8", "binary", "ubinary")),
    ([], {"precision": "int8"}),
    (TEXTS, {"precision": "ubinary", "convert_to_tensor": True, "truncate_dim": 9}),
    *((TEXTS, {"prompt_name": name}) for name in ("query", "document", "unknown")),
    *(("a text", {"prompt": prompt}) for prompt in ("", "search: ")),
    (TEXTS, {"prompt": "search: ", "prompt_name": "unknown"}),
    *((TEXTS, {"batch_size": size}) for size in (1, 3, 0, -1)),
    (TEXTS, {"nonsense": 1}),
    (TEXTS, {"task": "query"}),
    (TEXTS, {"precision": "int4"}),
    (TEXTS, {"show_progress_bar": False, "device": "cpu"}),
    (np.array("a text"), {}),
    *((bad, {}) for bad in (3, None, [3], [None], {"a": 1}, b"bytes")),
]


@pytest.mark.parametrize(("inputs", "options"), CALLS)
def test_encode_is_that_of_sentence_transformers(
    ours: SentenceTransformer, oracle: Any, inputs: Any, options: dict[str, Any]
) -> None:
    assert_both(ours.encode, oracle.encode, inputs, **options)


@pytest.mark.parametrize(("inputs", "options"), CALLS)
def test_every_setting_of_a_checkpoint_counts_as_there(full: Path, inputs: Any, options: dict[str, Any]) -> None:
    ours, theirs = both(full)
    for method in ("encode", "encode_query", "encode_document") if "task" not in options else ("encode",):
        our_method, their_method = getattr(ours, method), getattr(theirs, method)
        assert_both(our_method, their_method, inputs, **options)


_both: dict[Path, tuple[SentenceTransformer, Any]] = {}


def both(folder: Path, **options: Any) -> tuple[SentenceTransformer, Any]:
    """A checkpoint in both libraries; the same ones again where nothing is special about them."""
    from sentence_transformers import SentenceTransformer as Real

    if options or folder not in _both:
        made = SentenceTransformer(str(folder), **options), Real(str(folder), device="cpu", **options)
        if options:
            return made
        _both[folder] = made
    return _both[folder]


def test_settings_are_read_and_written_as_there(full: Path, minilm: Path) -> None:
    for folder in (full, minilm):
        ours, theirs = both(folder)
        names = ("max_seq_length", "prompts", "default_prompt_name", "truncate_dim", "similarity_fn_name")
        for name in names:
            assert getattr(ours, name) == getattr(theirs, name), name
        assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
        assert ours.get_sentence_embedding_dimension() == ours.get_embedding_dimension()
        assert ours.get_max_seq_length() == ours.max_seq_length
    ours, theirs = both(full, truncate_dim=6, default_prompt_name="query", similarity_fn_name="euclidean")
    for model in (ours, theirs):
        model.max_seq_length = 7
        model.prompts["query"] = "look: "
    assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
    for size in (3, None, 99):
        with ours.truncate_embeddings(size), theirs.truncate_embeddings(size):
            assert_same(ours.encode(TEXTS), theirs.encode(TEXTS))
            assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    with ours.truncate_sentence_embeddings(2):
        assert ours.encode("a").shape == (2,)
    assert ours.truncate_dim == 6
    ours, theirs = both(full, prompts={"document": "doc: ", "passage": ""}, default_prompt_name="document")
    assert ours.prompts == theirs.prompts
    assert_same(ours.encode_document(TEXTS), theirs.encode_document(TEXTS))
    assert_same(both(full, processor_kwargs={"model_max_length": 5})[0].encode(TEXTS).shape, (5, 10))


def test_a_limit_past_what_the_network_reads_is_no_error_before_a_text_is(full: Path) -> None:
    ours, theirs = both(full, truncate_dim=10)
    ours.max_seq_length = theirs.max_seq_length = 1000
    assert ours.max_seq_length == 1000
    assert_same(ours.encode(TEXTS[:3]), theirs.encode(TEXTS[:3]))
    assert ours.encode("fox " * 100).shape == (10,)  # an error there: no position for the last of them


@pytest.mark.parametrize("value", ["token_embeddings", None])
def test_token_vectors_are_those_of_sentence_transformers(full: Path, value: str | None) -> None:
    ours, theirs = both(full)
    for text in TEXTS:  # one by one: together, theirs has padding
        found = ours.encode(text, output_value=value, convert_to_tensor=True)
        expected = theirs.encode(text, output_value=value)
        if value is None:
            expected.pop("prompt_length")
        assert_same(found, expected)
    together = ours.encode(TEXTS, output_value=value)
    alone = [ours.encode(text, output_value=value) for text in TEXTS]
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other, atol=0)
    assert ours.encode([], output_value=value) == theirs.encode([], output_value=value) == []


def test_tokens_are_those_of_sentence_transformers(full: Path) -> None:
    ours, theirs = both(full)
    for prompt in (None, "find: "):
        found, expected = ours.preprocess(TEXTS, prompt=prompt), dict(theirs.preprocess(TEXTS, prompt=prompt))
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name].numpy(), name)
        assert set(expected) - set(found) <= {"modality", "prompt_length"}
    assert list(ours.tokenize(["a"])) == ["input_ids", "token_type_ids", "attention_mask"]
    assert ours.preprocess([]) == theirs.preprocess([]) == {}


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_those_of_sentence_transformers(oracle: Any, ours: SentenceTransformer, measure: str) -> None:
    a, b = oracle.encode(TEXTS), oracle.encode(SENTENCES[:5])
    before = oracle.similarity_fn_name
    try:
        for model in (ours, oracle):
            model.similarity_fn_name = measure
        assert ours.similarity_fn_name == oracle.similarity_fn_name == measure
        for x, y in ((a, b), (a[0], b), (a[0], b[0])):
            np.testing.assert_allclose(ours.similarity(x, y), oracle.similarity(x, y), atol=1e-4)
        np.testing.assert_allclose(ours.similarity_pairwise(a, b), oracle.similarity_pairwise(a, b), atol=1e-4)
    finally:
        for model in (ours, oracle):
            model.similarity_fn_name = before
    with pytest.raises(ValueError, match="only supports similarity_fn_name in"):
        ours.similarity_fn_name = "maxsim"
    ours.similarity_fn_name = SimilarityFunction.COSINE


def test_pools_change_nothing(ours: SentenceTransformer) -> None:
    expected = ours.encode(TEXTS)
    pool = ours.start_multi_process_pool(["cpu", "cpu"])
    np.testing.assert_array_equal(ours.encode(TEXTS, pool=pool, chunk_size=2), expected)
    np.testing.assert_array_equal(ours.encode(TEXTS, device=["cpu", "cpu"]), expected)
    np.testing.assert_array_equal(ours.encode_multi_process(TEXTS, pool, chunk_size=1), expected)
    ours.stop_multi_process_pool(pool)
    with pytest.raises(ValueError, match="chunk_size must be a positive integer"):
        ours.encode(TEXTS, pool=pool, chunk_size=0)
    with pytest.raises(ValueError, match="device is 'cuda:0'; Bothways computes on the CPU"):
        ours.encode(TEXTS, device=["cpu", "cuda:0"])


def test_older_names_of_arguments_are_understood(ours: SentenceTransformer, full: Path) -> None:
    np.testing.assert_array_equal(ours.encode(sentences=TEXTS), ours.encode(TEXTS))
    np.testing.assert_array_equal(ours.encode_query(sentences="a"), ours.encode("a"))
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'inputs'"):
        ours.encode()
    assert SentenceTransformer(str(full), tokenizer_kwargs={"model_max_length": 9}).max_seq_length == 9


def test_a_progress_bar_and_what_was_cut_are_told(
    ours: SentenceTransformer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ours.encode(TEXTS, show_progress_bar=True)
    assert "Texts" in capsys.readouterr().err
    ours.encode(["short", "long " * 400])
    assert capsys.readouterr().err == ""
    assert "1 of 2 texts were longer than 256 tokens and were cut; a larger max_seq_length reads more" in caplog.text


def test_an_encoder_and_the_parts_of_torch_that_mean_the_same_are_taken(ours: SentenceTransformer, full: Path) -> None:
    import torch

    with pytest.raises(ValueError, match="the model is an Encoder, loaded already; leave revision and dtype out"):
        SentenceTransformer(ours.encoder, model_kwargs={"dtype": "bfloat16"})
    shared = SentenceTransformer(ours.encoder, device=torch.device("cpu"))
    assert shared.encoder is ours.encoder
    assert ours.eval().to("cpu").cpu() is ours
    assert (ours.device, ours.get_backend(), ours.tokenizer) == ("cpu", "bothways", ours.encoder.tokenizer)
    for options in ({"torch_dtype": torch.bfloat16}, {"dtype": "bfloat16"}):
        assert SentenceTransformer(str(full), model_kwargs=options).encoder.engine.dtype == "bfloat16"
    for options in ({"dtype": "auto"}, {"torch_dtype": torch.float32}, {}, None):
        assert SentenceTransformer(str(full), model_kwargs=options).encoder.engine.dtype == "float32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_remote_code": True}, "trust_remote_code is True; Bothways never runs a checkpoint's own code"),
        ({"backend": "onnx"}, "backend is 'onnx'"),
        ({"device": "cuda"}, "device is 'cuda'; Bothways computes on the CPU"),
        ({"model_kwargs": {"dtype": "float16"}}, "dtype is 'float16'; Bothways computes with float32"),
        ({"model_kwargs": {"attn_implementation": "sdpa"}}, "model_kwargs holds attn_implementation"),
        ({"processor_kwargs": {"padding_side": "left"}}, "processor_kwargs holds padding_side"),
        ({"config_kwargs": {"num_labels": 1}}, "config_kwargs is"),
        ({"modules": []}, r"modules is \[\]"),
        ({"model_card_data": 1}, "model_card_data is 1"),
        ({"default_prompt_name": "none"}, "Default prompt name 'none' not found in the configured prompts"),
        ({"similarity_fn_name": "maxsim"}, "only supports similarity_fn_name in"),
        ({"processor_kwargs": {"model_max_length": 0}}, "model_max_length must be a positive integer, got 0"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(full: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SentenceTransformer(str(full), **options)


def test_unknown_arguments_and_models_are_refused(ours: SentenceTransformer, full: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        SentenceTransformer(str(full), nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="the model is None; name a folder"):
        SentenceTransformer()
    with pytest.raises(ValueError, match="output_value is 'cls'; use 'sentence_embedding'"):
        ours.encode("a", output_value="cls")
    with pytest.raises(ValueError, match="precision 'int8' is for sentence embeddings"):
        ours.encode(["a"], output_value="token_embeddings", precision="int8")
    with pytest.raises(InputError, match="lone surrogate"):
        ours.encode("\ud800")
    for absent in ("fit", "train", "save_pretrained", "push_to_hub"):
        assert not hasattr(ours, absent)


def test_names_without_an_organization_and_the_hubs_settings_reach_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    hub = Hub()
    threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    try:
        with pytest.raises(BothwaysError, match="modules.json"):  # the hub's files are empty
            SentenceTransformer("small", cache_folder=str(tmp_path))
        assert any("sentence-transformers/small" in request for request in hub.requests)
        assert (tmp_path / "models--sentence-transformers--small").is_dir()
        hub.requests.clear()
        with pytest.raises(ModelNotFound, match="local_files_only forbids to download"):
            SentenceTransformer("other", cache_folder=str(tmp_path), local_files_only=True)
        assert not hub.requests
    finally:
        hub.shutdown()
        hub.server_close()


def test_whole_models_of_old_have_no_organization(monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers.util import ORIGINAL_TRANSFORMER_MODELS

    ours = {name for name in ORIGINAL_TRANSFORMER_MODELS if name.startswith(("albert", "bert", "camem", "distilb"))}
    ours |= {name for name in ORIGINAL_TRANSFORMER_MODELS if "roberta" in name}
    assert ours == loading._BARE_NAMES
    asked: list[str] = []

    def resolve(name: str, *_: Any) -> None:
        asked.append(name)
        raise InputError("asked")

    monkeypatch.setattr(loading, "resolve", resolve)
    for name in ("bert-base-uncased", "all-MiniLM-L6-v2", "org/name", "pkg:package/folder", "/no/such/folder"):
        with pytest.raises(InputError, match="asked"):
            SentenceTransformer(name)
    with pytest.raises(InputError, match="asked"):
        CrossEncoder("stsb")
    assert asked[:2] == ["bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"]
    assert asked[2:] == ["org/name", "pkg:package/folder", "/no/such/folder", "cross-encoder/stsb"]


def test_torch_is_not_imported_and_bothways_does_not_import_compat(full: Path) -> None:
    program = (
        "import sys, bothways; print('bothways.compat' in sys.modules, 'bothways.adaptors' in sys.modules)\n"
        "from bothways.compat import SentenceTransformer, CrossEncoder, pipeline, util\n"
        f"model = SentenceTransformer({str(full)!r}); vectors = model.encode(['a', 'b'], normalize_embeddings=True)\n"
        "model.similarity(vectors, vectors), model.encode('a', output_value='token_embeddings')\n"
        f"pipeline('feature-extraction', {str(full)!r})('a')\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
        "sys.modules['torch'] = None\n"
        "try: model.encode('a', convert_to_tensor=True)\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "False False",
        "False False",
        "convert_to_tensor=True gives torch tensors, and torch is not installed: pip install torch",
    ]


def test_vectors_are_the_encoders_own(full: Path, load: Callable[..., Encoder]) -> None:
    vectors = Encoder.from_pretrained(full).embed(TEXTS, prompt="")
    found = SentenceTransformer(str(full)).encode(TEXTS, prompt="", normalize_embeddings=True)
    np.testing.assert_allclose(found, vectors, atol=1e-6)


def test_the_limit_of_an_encoder_holds(full: Path) -> None:
    from bothways.compat import pipeline

    encoder = Encoder.from_pretrained(full, max_length=5)
    model = SentenceTransformer(encoder)
    assert model.max_seq_length == 5
    text = "the quick brown fox jumps over the lazy dog"
    other = SentenceTransformer(str(full))
    other.max_seq_length = 5
    np.testing.assert_array_equal(model.encode(text), other.encode(text))
    assert len(pipeline("feature-extraction", encoder)(text)[0]) == 5
