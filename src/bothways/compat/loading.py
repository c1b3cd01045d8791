"""Reads the arguments that sentence-transformers and transformers load models with, and loads an `Encoder`.

What Bothways does not do is refused by its name, never ignored.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bothways.encoder import Encoder
from bothways.sources import HubAccess, resolve
from bothways.spec import DTYPES

__all__ = ["load", "read_device", "read_dtype", "refuse", "take_dtype"]

# Hub names without an organization that are those of whole models; any other is looked for below the library's own.
_BARE_NAMES = {
    f"{start}{end}"
    for start, ends in {
        "albert-": "base-v1 base-v2 large-v1 large-v2 xlarge-v1 xlarge-v2 xxlarge-v1 xxlarge-v2",
        "bert-base-": "cased-finetuned-mrpc cased chinese german-cased german-dbmdz-cased german-dbmdz-uncased "
        "multilingual-cased multilingual-uncased uncased",
        "bert-large-": "cased-whole-word-masking-finetuned-squad cased-whole-word-masking cased uncased "
        "uncased-whole-word-masking-finetuned-squad uncased-whole-word-masking",
        "camembert-": "base",
        "distilbert-base-": "cased-distilled-squad cased german-cased multilingual-cased uncased "
        "uncased-distilled-squad uncased-finetuned-sst-2-english",
        "distilroberta-": "base",
        "roberta-": "base base-openai-detector large large-mnli large-openai-detector",
        "xlm-roberta-": "base large large-finetuned-conll02-dutch large-finetuned-conll02-spanish "
        "large-finetuned-conll03-english large-finetuned-conll03-german",
    }.items()
    for end in ends.split()
}


def load(
    model: Any,
    *,
    organization: str = "",
    revision: str | None = None,
    cache_folder: str | Path | None = None,
    token: bool | str | None = None,
    local_files_only: bool = False,
    dtype: str = "float32",
) -> Encoder:
    """Load a model by the name that the other library knows it by, or take an `Encoder` as it is.

    Args:
        model: A folder, a hub name, "pkg:package/folder", or an `Encoder`.
        organization: Where on the hub a name without one is looked for.
        revision: The hub name's branch, tag or commit.
        cache_folder: Where the hub's files are kept; None for the hub client's own place.
        token: What the hub knows the user by.
        local_files_only: Never ask the hub.
        dtype: Of the weights and products.
    """
    if isinstance(model, Encoder):
        if revision is not None or dtype not in ("float32", model.engine.dtype):
            raise ValueError("the model is an Encoder, loaded already; leave revision and dtype out")
        return model
    name = os.fspath(model) if isinstance(model, os.PathLike) else model
    if not isinstance(name, str) or not name:
        raise ValueError(f"the model is {model!r}; name a folder, a hub model or pkg:package/folder")
    if organization and not any(mark in name for mark in "/:\\") and not os.path.exists(name):
        name = name if name.lower() in _BARE_NAMES else f"{organization}/{name}"
    access = HubAccess(cache_folder, token, bool(local_files_only))
    found = resolve(name, revision, access)
    loaded = Encoder.from_pretrained(found.folder, dtype=dtype)
    loaded.name = found.name
    return loaded


def read_device(device: Any) -> None:
    """Check that a device, as either library or torch spells it, is the CPU.

    Raises:
        ValueError: It is another.
    """
    if device is None or device == -1 or str(device).split(":")[0] == "cpu":
        return
    raise ValueError(f"device is {str(device)!r}; Bothways computes on the CPU: leave device out, or pass 'cpu'")


def read_dtype(dtype: Any) -> str:
    """Read a dtype, a name or torch's own; "auto" and None are float32, whatever the files hold.

    Raises:
        ValueError: It is none that Bothways computes with.
    """
    if dtype is None or dtype == "auto":
        return "float32"
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype is {str(dtype)!r}; Bothways computes with {', '.join(DTYPES)}")
    return name


def take_dtype(model_kwargs: Mapping[str, Any] | None) -> str:
    """Read `model_kwargs`, of which the dtype alone has a meaning here.

    Raises:
        ValueError: Anything else is in it.
    """
    given = dict(model_kwargs or {})
    old, new = given.pop("torch_dtype", None), given.pop("dtype", None)
    if given:
        raise ValueError(f"model_kwargs holds {', '.join(sorted(given))}; of it, only dtype has a meaning to Bothways")
    return read_dtype(old if new is None else new)


def refuse(why: str, **arguments: Any) -> None:
    """Raise ValueError if one of some arguments was given: neither None nor False."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ValueError(f"{name} is {value!r}; {why}")
