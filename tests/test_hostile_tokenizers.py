"""Damaged and lying tokenizer files end in a BothwaysError, or in ids that the network's tables have rows for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_folders import (
    PAIRS,
    TEXTS,
    save,
    sentencepiece_model,
    spec,
    train_bert,
    train_roberta,
    train_xlm_roberta,
)

from bothways.errors import BothwaysError
from bothways.tokens import Tokenizer

BYTES_FILES = {
    "tokenizer.json": ("bert", False),
    "vocab.txt": ("bert", True),
    "vocab.json": ("roberta", True),
    "merges.txt": ("roberta", True),
    "sentencepiece.bpe.model": ("xlm-roberta", True),
}

VALUES = [
    None,
    True,
    -1,
    0,
    1,
    2,
    4,
    2**31,
    2**32,
    2**64,
    1e30,
    "",
    "x",
    "[CLS]",
    "<unk>",
    "\x00",
    [],
    [0],
    {},
    {"": 0},
]

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    """A sound folder of each family, with tokenizer.json and with the old files."""
    raws = {"bert": train_bert(False), "roberta": train_roberta(), "xlm-roberta": train_xlm_roberta()}
    return {
        (name, old): save(raw, tmp_path_factory.mktemp(name), class_name=None, model_type=name, old_files=old)
        for name, raw in raws.items()
        for old in (False, True)
    }


def use(folder: Path) -> None:
    """Load and tokenize; whatever comes out must fit the network's tables."""
    network = spec(vocab_size=800, max_tokens=32)
    try:
        sequences = Tokenizer.from_folder(folder, network).tokenize([*TEXTS[:20], *PAIRS[:10], "the fox " * 40])
    except BothwaysError as error:
        assert str(error)
        return
    for sequence in sequences:
        assert len(sequence) <= network.max_tokens
        assert all(0 <= i < network.vocab_size for i in sequence.ids)
        assert all(0 <= i < network.num_token_types for i in sequence.token_types)
        assert len(sequence.tokens) == len(sequence.offsets) == len(sequence)


def with_file(folder: Path, name: str, content: bytes) -> None:
    """Use the folder with one file replaced, then put the file back."""
    path = folder / name
    sound = path.read_bytes() if path.exists() else None
    try:
        path.write_bytes(content)
        use(folder)
    finally:
        if sound is None:
            path.unlink()
        else:
            path.write_bytes(sound)


@pytest.mark.parametrize("name", BYTES_FILES)
@quick
@given(data=st.data())
def test_files_with_damaged_bytes(name: str, folders: dict[tuple[str, bool], Path], data: st.DataObject) -> None:
    folder = folders[BYTES_FILES[name]]
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        size = data.draw(st.sampled_from([0, 1, 1, 2, 40, 10_000]))
        content[start : start + size] = data.draw(st.binary(max_size=6))
    with_file(folder, name, bytes(content))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
@quick
@given(data=st.data())
def test_tokenizer_json_that_lies(family: str, folders: dict[tuple[str, bool], Path], data: st.DataObject) -> None:
    folder = folders[family, False]
    content = json.loads((folder / "tokenizer.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        _spoil(content, data)
    with_file(folder, "tokenizer.json", json.dumps(content).encode())


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize("old_files", [False, True])
@quick
@given(data=st.data())
def test_small_files_that_lie(
    name: str, old_files: bool, folders: dict[tuple[str, bool], Path], data: st.DataObject
) -> None:
    family = data.draw(st.sampled_from(["bert", "roberta"]))
    keys = ["tokenizer_class", "model_max_length", "do_lower_case", "strip_accents", "tokenize_chinese_chars"]
    keys += ["cls_token", "unk_token", "mask_token", "additional_special_tokens", "added_tokens_decoder", "[NEW]"]
    token = st.fixed_dictionaries({"content": st.sampled_from(VALUES)}, optional={"lstrip": st.sampled_from(VALUES)})
    described = st.dictionaries(st.sampled_from(["0", "600", "700", "x"]), token, max_size=2)
    values = st.one_of(st.sampled_from(VALUES), token, described, st.lists(token, max_size=2))
    content = data.draw(st.dictionaries(st.sampled_from(keys), values, max_size=4))
    with_file(folders[family, old_files], name, json.dumps(content).encode())


@quick
@given(
    pieces=st.lists(st.tuples(st.text(max_size=4), st.floats(width=32)), max_size=12),
    charsmap=st.binary(max_size=60),
)
def test_sentencepiece_models_that_lie(
    pieces: list[tuple[str, float]], charsmap: bytes, folders: dict[tuple[str, bool], Path]
) -> None:
    content = sentencepiece_model(pieces) + b"\x1a" + bytes([len(charsmap) + 2, 0x12, len(charsmap)]) + charsmap
    with_file(folders["xlm-roberta", True], "sentencepiece.bpe.model", content)


def _spoil(content: Any, data: st.DataObject) -> None:
    """Walk down to some place in a JSON value and change, remove, repeat or replace what is there."""
    while True:
        places = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not places:
            return
        place = data.draw(st.sampled_from(places))
        if isinstance(content[place], (dict, list)) and data.draw(st.booleans()):
            content = content[place]
            continue
        what = data.draw(st.sampled_from(["value", "remove", "copy"]))
        if what == "remove":
            del content[place]
        elif what == "copy":
            content[data.draw(st.sampled_from(places))] = content[place]
        else:
            content[place] = data.draw(st.sampled_from(VALUES))
        return
