"""Whatever is done to a checkpoint's files, opening it succeeds or is a BothwaysError; nothing else is ever raised."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoints import join_file, save_model, split_file

from bothways.checkpoint import open_checkpoint
from bothways.errors import BothwaysError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EXTREMES = [-1, 0, 1, 2, 7, 2**31 - 1, 2**31, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**300]

numbers = st.sampled_from(EXTREMES) | st.integers(-100, 50_000)
odd_texts = st.sampled_from(
    ["", ".", "..", "/", "../x", "\0", "\ud800", "a" * 5000, "bert", "F32", "BF16", "I64", "gelu"]
)
scalars = st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=5) | odd_texts
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
many = settings(deadline=None, max_examples=100)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint in one file."""
    folder = tmp_path_factory.mktemp("sound")
    save_model(folder, "bert")
    return folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint in shards."""
    folder = tmp_path_factory.mktemp("sharded")
    save_model(folder, "distilbert").save_pretrained(folder, max_shard_size="4KB")
    (folder / WEIGHTS).unlink(missing_ok=True)
    return folder


def opens_or_refuses(sound: Path, name: str, content: bytes) -> bool:
    """Open a checkpoint with one file replaced, and read every value that it then has."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        for file in sound.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / name).unlink()
        (folder / name).write_bytes(content)
        try:
            checkpoint = open_checkpoint(folder)
        except BothwaysError as error:
            assert str(error)
            return False
        for tensor in checkpoint.tensors.values():
            tensor.float32().tobytes()
        for tensor in checkpoint.raw.values():
            tensor.array.tobytes()
        return True


def weights_of(sound: Path) -> bytes:
    return (sound / WEIGHTS).read_bytes()


def header_size(sound: Path) -> int:
    return int.from_bytes(weights_of(sound)[:8], "little")


@pytest.fixture(scope="module")
def names(sound: Path) -> Iterator[list[str]]:
    yield sorted(split_file(weights_of(sound))[0])


def test_untouched_files_open(sound: Path, sharded: Path) -> None:
    assert opens_or_refuses(sound, WEIGHTS, weights_of(sound))
    assert opens_or_refuses(sharded, INDEX, (sharded / INDEX).read_bytes())


@many
@given(data=st.data())
def test_flipped_bytes_in_the_header(sound: Path, data: st.DataObject) -> None:
    content = bytearray(weights_of(sound))
    places = st.integers(0, 7) | st.integers(8, 7 + header_size(sound))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    opens_or_refuses(sound, WEIGHTS, bytes(content))


@many
@given(cut=st.floats(0, 1), extra=st.binary(max_size=9))
def test_cut_and_extended_files(sound: Path, cut: float, extra: bytes) -> None:
    content = weights_of(sound)
    changed = content[: int(cut * len(content))] + extra
    # Other values in the last tensor are values like any.
    assert opens_or_refuses(sound, WEIGHTS, changed) == (len(changed) == len(content))


@many
@given(size=st.sampled_from([n for n in EXTREMES if 0 <= n < 2**64]) | st.integers(0, 2**64 - 1) | st.integers(0, 9999))
def test_lying_header_lengths(sound: Path, size: int) -> None:
    content = weights_of(sound)
    opened = opens_or_refuses(sound, WEIGHTS, size.to_bytes(8, "little") + content[8:])
    assert opened == (size == header_size(sound))


@many
@given(data=st.data())
def test_edited_header_entries(sound: Path, names: list[str], data: st.DataObject) -> None:
    header, values = split_file(weights_of(sound))
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(names))
        key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "all"]))
        if key == "all" or not isinstance(header[name], dict):
            header[name] = data.draw(junk)
        else:
            header[name][key] = data.draw(junk)
    opens_or_refuses(sound, WEIGHTS, join_file(header, values))


@many
@given(data=st.data())
def test_moved_and_reshaped_tensors(sound: Path, names: list[str], data: st.DataObject) -> None:
    header, values = split_file(weights_of(sound))
    entry = header[data.draw(st.sampled_from([name for name in names if name != "__metadata__"]))]
    entry["data_offsets"] = data.draw(st.tuples(numbers, numbers))
    entry["shape"] = data.draw(st.lists(numbers, max_size=4))
    opens_or_refuses(sound, WEIGHTS, join_file(header, values))


@many
@given(data=st.data())
def test_renamed_tensors(sound: Path, names: list[str], data: st.DataObject) -> None:
    header, values = split_file(weights_of(sound))
    stem = data.draw(st.text(max_size=8) | odd_texts | st.sampled_from(names))
    header[stem] = header.pop(data.draw(st.sampled_from(names)))
    opens_or_refuses(sound, WEIGHTS, join_file(header, values))


@many
@given(header=junk)
def test_header_of_any_json(sound: Path, header: Any) -> None:
    assert not opens_or_refuses(sound, WEIGHTS, join_file(header, bytes(64)))


@many
@given(content=st.binary(max_size=300))
def test_weights_of_any_bytes(sound: Path, content: bytes) -> None:
    assert not opens_or_refuses(sound, WEIGHTS, content)


@settings(many, max_examples=300)
@given(data=st.data())
def test_config_values_of_any_json(sound: Path, data: st.DataObject) -> None:
    config = json.loads((sound / "config.json").read_text())
    extra = ["auto_map", "pruned_heads", "position_embedding_type", "quantization_config", "is_causal"]
    for key in data.draw(st.lists(st.sampled_from(sorted(config) + extra), min_size=1, max_size=3)):
        config[key] = data.draw(junk)
    opens_or_refuses(sound, "config.json", json.dumps(config).encode())


@many
@given(data=st.data(), model_type=st.sampled_from(["bert", "roberta", "xlm-roberta", "camembert", "distilbert"]))
def test_config_of_another_family(sound: Path, model_type: str, data: st.DataObject) -> None:
    config = json.loads((sound / "config.json").read_text()) | {"model_type": model_type}
    config |= data.draw(st.dictionaries(st.sampled_from(["pad_token_id", "dim", "n_heads", "activation"]), junk))
    opens_or_refuses(sound, "config.json", json.dumps(config).encode())


@many
@given(data=st.data())
def test_config_with_flipped_bytes(sound: Path, data: st.DataObject) -> None:
    content = bytearray((sound / "config.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    opens_or_refuses(sound, "config.json", bytes(content))


@many
@given(classes=junk)
def test_message_about_pickled_weights_survives_any_architectures(sound: Path, classes: Any) -> None:
    with tempfile.TemporaryDirectory() as room:
        config = json.loads((sound / "config.json").read_text()) | {"architectures": classes}
        (Path(room) / "config.json").write_text(json.dumps(config))
        (Path(room) / "pytorch_model.bin").touch()
        with pytest.raises(BothwaysError, match="only pytorch_model.bin"):
            open_checkpoint(Path(room))


@many
@given(data=st.data())
def test_index_of_any_places(sharded: Path, data: st.DataObject) -> None:
    index = json.loads((sharded / INDEX).read_text())
    places = index["weight_map"]
    for name in data.draw(st.lists(st.sampled_from(sorted(places)) | st.text(max_size=5), min_size=1, max_size=3)):
        places[name] = data.draw(odd_texts | st.sampled_from(sorted(set(map(str, places.values())))) | junk)
    opens_or_refuses(sharded, INDEX, json.dumps(index).encode())


@many
@given(index=junk)
def test_index_of_any_json(sharded: Path, index: Any) -> None:
    assert not opens_or_refuses(sharded, INDEX, json.dumps({"weight_map": index}).encode())
    assert not opens_or_refuses(sharded, INDEX, json.dumps(index).encode())
