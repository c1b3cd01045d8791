"""Random configs of every family and every head give the numbers of transformers; `make fuzz` draws many more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("bothways._native", reason="the native engine is not built")
from sweep import FAMILIES, compare

from bothways import families

#: How many configs are drawn for each family and head; `make fuzz` asks for more.
SEEDS = 2 * int(os.environ.get("BOTHWAYS_FUZZ_ROUNDS", "1"))


@pytest.mark.parametrize(("model_type", "kind"), [(name, kind) for name in FAMILIES for kind in FAMILIES[name].kinds])
def test_random_checkpoints_give_the_numbers_of_transformers(tmp_path: Path, model_type: str, kind: str) -> None:
    for seed in range(SEEDS):
        compare(model_type, kind, seed, tmp_path / str(seed))


def test_every_family_is_swept() -> None:
    swept = {families.find({"model_type": name}).name for name in FAMILIES}
    unknown_to_transformers = {"jina_bert", "static"}
    assert swept | unknown_to_transformers == {family.name for family in families.FAMILIES}
