"""Batches: packing, position rows and the token budget."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bothways.batch import pack, split
from bothways.spec import Spec
from bothways.tokens import Sequence

BERT = Spec("bert", 100, 8, 1, 1, 16, "gelu", 1e-12, num_positions=64)
ROBERTA = dataclasses.replace(BERT, family="roberta", position_offset=2, padding_id=1)


def sequence(ids: list[int]) -> Sequence:
    return Sequence(np.array(ids, np.int32), np.full(len(ids), 1, np.int32))


def test_sequences_are_packed_end_to_end() -> None:
    batch = pack([sequence([5, 6, 7]), sequence([8]), sequence([9, 10])], BERT)
    assert len(batch) == 3
    assert batch.ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert batch.starts.tolist() == [0, 3, 4, 6]
    assert batch.lengths.tolist() == [3, 1, 2]
    assert batch.token_types.tolist() == [1] * 6
    for array in (batch.ids, batch.positions, batch.token_types, batch.starts):
        assert array.dtype == np.int32


def test_positions_start_anew_in_every_sequence() -> None:
    assert pack([sequence([5, 6, 7]), sequence([8, 9])], BERT).positions.tolist() == [0, 1, 2, 0, 1]


def test_roberta_padding_tokens_keep_their_row_and_do_not_count() -> None:
    batch = pack([sequence([5, 1, 7]), sequence([1, 9, 9])], ROBERTA)
    assert batch.positions.tolist() == [2, 1, 3, 1, 2, 3]


def test_roberta_positions_equal_transformers() -> None:
    import torch
    from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

    ids = np.random.default_rng(0).integers(0, 4, size=(20, 9))
    expected = RobertaEmbeddings.create_position_ids_from_input_ids(torch.tensor(ids), 1)
    batch = pack([sequence(row.tolist()) for row in ids], ROBERTA)
    np.testing.assert_array_equal(batch.positions.reshape(ids.shape), expected.numpy())


def test_no_sequences_give_an_empty_batch() -> None:
    batch = pack([], BERT)
    assert len(batch) == 0
    assert batch.starts.tolist() == [0]


@given(st.lists(st.integers(1, 12), max_size=40), st.integers(1, 20))
def test_batch_never_exceeds_token_budget_except_for_one_long_sequence(lengths: list[int], budget: int) -> None:
    sequences = [sequence([7] * length) for length in lengths]
    batches = list(split(sequences, budget))
    assert [s for batch in batches for s in batch] == sequences
    for batch in batches:
        assert len(batch) == 1 or sum(map(len, batch)) <= budget


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 20))
def test_batches_are_as_full_as_order_allows(lengths: list[int], budget: int) -> None:
    batches = list(split([sequence([7] * length) for length in lengths], budget))
    for batch, after in zip(batches, batches[1:], strict=False):
        assert sum(map(len, batch)) + len(after[0]) > budget
