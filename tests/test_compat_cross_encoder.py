"""compat.CrossEncoder beside the real one: the same call, the same result or the same error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from same import assert_both, assert_same
from task_checkpoints import TEXTS, save_task
from tiny_checkpoints import edit_config

from bothways.compat import CrossEncoder
from bothways.errors import TaskError

QUERY = "who jumps over the dog?"
DOCUMENTS = [*TEXTS, "a dog " * 60, "lazy"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]

#: How many labels, and what the checkpoint's files say of their activation.
KINDS = {"one": (1, None), "raw": (1, "Identity"), "three": (3, None), "odd": (3, "Sigmoid")}


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CrossEncoder, Any]:
    from sentence_transformers import CrossEncoder as Real

    count, name = KINDS[request.param]
    folder = save_task(tmp_path_factory.mktemp(request.param), "bert", "classification", num_labels=count)
    if name:
        module = {"Identity": "linear"}.get(name, "activation")
        edit_config(folder, sbert_ce_default_activation_function=f"torch.nn.modules.{module}.{name}")
    return CrossEncoder(str(folder)), Real(str(folder), device="cpu")


CALLS: list[tuple[Any, dict[str, Any]]] = [
    *((inputs, {}) for inputs in (PAIRS, list(map(list, PAIRS)), tuple(PAIRS), PAIRS[:1], [], (), np.array(PAIRS))),
    *((inputs, {}) for inputs in (PAIRS[0], list(PAIRS[0]), np.array(PAIRS[0]), "a text")),
    *((inputs, {"convert_to_tensor": True}) for inputs in (PAIRS, PAIRS[0], [])),
    *((inputs, {"convert_to_numpy": False}) for inputs in (PAIRS, PAIRS[0], [])),
    *((inputs, {"apply_softmax": True}) for inputs in (PAIRS, PAIRS[0], [])),
    *((PAIRS, {"batch_size": size}) for size in (2, 0)),
    (PAIRS, {"prompt": "find: "}),
    (PAIRS, {"prompt_name": "query"}),
    (PAIRS, {"show_progress_bar": False, "device": "cpu", "num_workers": 2}),
    *((bad, {}) for bad in (3, [3], [[3, 4]])),
]


@pytest.mark.parametrize(("inputs", "options"), CALLS)
def test_predict_is_that_of_sentence_transformers(
    both: tuple[CrossEncoder, Any], inputs: Any, options: dict[str, Any]
) -> None:
    ours, theirs = both
    assert_both(ours.predict, theirs.predict, inputs, **options)


def test_rank_is_that_of_sentence_transformers(both: tuple[CrossEncoder, Any]) -> None:
    ours, theirs = both
    for documents in (DOCUMENTS, DOCUMENTS[:1], []):
        for options in ({}, {"top_k": 2}, {"top_k": 0}, {"top_k": 99}, {"return_documents": True}, {"prompt": "x "}):
            assert_both(ours.rank, theirs.rank, QUERY, documents, **options)
    if ours.num_labels == 1:
        assert ours.rank(QUERY, DOCUMENTS, apply_softmax=True, convert_to_tensor=True) == ours.rank(QUERY, DOCUMENTS)
        assert [item["corpus_id"] for item in ours.rank(QUERY, ["same", "same", "same"])] == [0, 1, 2]


def test_activations_are_functions_of_tensors_or_names(both: tuple[CrossEncoder, Any]) -> None:
    import torch

    ours, theirs = both
    for name, function in (("sigmoid", torch.nn.Sigmoid()), ("identity", torch.nn.Identity()), ("tanh", torch.tanh)):
        expected = theirs.predict(PAIRS, activation_fn=function)
        assert_same(ours.predict(PAIRS, activation_fn=function), expected)
        assert_same(ours.predict(PAIRS, activation_fn=name), expected)
        assert_same(ours.predict(PAIRS, activation_fct=name), expected)
        again = CrossEncoder(ours.encoder, activation_fn=function)
        assert_same(again.predict(PAIRS), expected)
    with pytest.raises(ValueError, match="activation_fn is 'softplus'; use identity, tanh"):
        ours.predict(PAIRS, activation_fn="softplus")


def test_settings_are_read_and_written_as_there(both: tuple[CrossEncoder, Any]) -> None:
    from sentence_transformers import CrossEncoder as Real

    ours, theirs = both
    assert (ours.num_labels, ours.prompts, ours.max_seq_length) == (theirs.num_labels, theirs.prompts, 48)
    folder = str(ours.encoder.checkpoint.folder)
    options: dict[str, Any] = {
        "prompts": {"find": "the quick brown: "},
        "default_prompt_name": "find",
        "max_length": 12,
    }
    mine, real = CrossEncoder(folder, **options), Real(folder, device="cpu", **options)
    assert mine.max_length == mine.max_seq_length == real.max_seq_length == 12
    assert_same(mine.predict(PAIRS), real.predict(PAIRS))
    mine.max_length = real.max_seq_length = 20
    assert_same(mine.predict(PAIRS), real.predict(PAIRS))


def test_what_has_no_meaning_is_refused_by_name(both: tuple[CrossEncoder, Any], tmp_path: Path) -> None:
    ours, _ = both
    with pytest.raises(ValueError, match="num_labels is 7, but the checkpoint's head gives"):
        CrossEncoder(ours.encoder, num_labels=7)
    with pytest.raises(ValueError, match=r"has no arguments \['nonsense'\]"):
        ours.predict(PAIRS, nonsense=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'keep_in_fp32_modules'"):
        CrossEncoder(ours.encoder, keep_in_fp32_modules=[])  # type: ignore[call-arg]
    save_task(tmp_path, "bert", "token_classification", num_labels=3)
    with pytest.raises(TaskError, match="it has no classification head"):
        CrossEncoder(str(tmp_path))
