"""The models that a server has: loaded once, found by name or by task, and warmed before the first request."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from bothways.arrays import FloatArray
from bothways.encoder import Encoder
from bothways.engines.threads import default_threads
from bothways.errors import CheckpointError, InputError, TaskError
from bothways.precision import check_ranges
from bothways.server.logs import log
from bothways.server.problems import Problem
from bothways.server.settings import Settings
from bothways.tasks.embed import token_limit
from bothways.tasks.plan import Plan, carry_out

__all__ = ["Model", "Models", "load_models"]

# What a warm-up tokenizes: enough that the fast tokenizer is made, where there is one, and knows the usual characters.
_WARM_CHARACTERS = 40_000

# Plans that are kept for the next request with the same options, of so many characters.
_PLANS = 256
_KEPT = 500


class Model:
    """A loaded checkpoint under the name that clients call it by.

    Attributes:
        ranges: (2, D), by which vectors are stored as int8 or uint8 where a request does not say; None for none.
    """

    def __init__(self, name: str, encoder: Encoder, ranges: FloatArray | None = None) -> None:
        self.name = name
        self.encoder = encoder
        self.ranges = ranges
        self.created = int(time.time())
        self._kept = lru_cache(_PLANS)(self._make)

    def plan(self, task: str, **options: Any) -> Plan[Any, Any]:
        """The plan of a call; those with the same options are one object, so that their results are made together.

        Raises:
            InputError: An option can't be used as given.
            TaskError: The checkpoint can't do the task.
        """
        described = tuple(sorted(options.items()))
        # Plans of long options, such as a query, are used once; and some options can't be looked up.
        if task in ("rerank", "zero_shot") or any(isinstance(value, list | np.ndarray) for value in options.values()):
            return self._make(task, described)
        return self._kept(task, described) if len(repr(described)) <= _KEPT else self._make(task, described)

    def _make(self, task: str, options: tuple[tuple[str, Any], ...]) -> Plan[Any, Any]:
        return self.encoder.plan(task, **dict(options))

    def can(self, task: str) -> bool:
        """Whether the checkpoint does a task of `Encoder`."""
        return task in self.encoder.tasks

    @property
    def max_tokens(self) -> int:
        """The most tokens of a text."""
        return self.encoder.max_length or self.encoder.tokenizer.max_tokens

    @property
    def embed_limit(self) -> int:
        """The most tokens of a text that is embedded."""
        return self.encoder.max_length or token_limit(self.encoder.spec, self.encoder.tokenizer)

    @property
    def usual_task(self) -> str:
        """What the checkpoint is for, where a request does not say: its head's task, or embeddings."""
        for task in ("rerank", "classify", "tag", "answer"):
            if self.can(task):
                return task
        if self.can("fill_mask") and self.encoder.spec.embed.splade is None and not _embeds(self.encoder):
            return "fill_mask"
        return "embed"

    def warm(self) -> None:
        """Embed some texts, and label them where that is what it does, so that the first request finds all made."""
        tokenizer = self.encoder.tokenizer
        text = "The quick brown fox jumps over the lazy dog. "
        tokenizer.tokenize([text * 40] * (_WARM_CHARACTERS // (40 * len(text)) + 1), spans=False)
        for task in ("embed", *filter(self.can, ("classify", "tag"))):
            try:
                plan = self.plan(task)
                for texts in ([text], [text] * 8):
                    list(carry_out(plan, texts))
            except (InputError, TaskError):
                continue  # not this checkpoint's use, such as one dense vector of a ColBERT
            except CheckpointError as error:
                log.warning("model %s can't %s a plain text: %s", self.name, task, error)


def _embeds(encoder: Encoder) -> bool:
    """Whether the checkpoint says how it embeds."""
    return (encoder.checkpoint.folder / "modules.json").is_file()


class Models:
    """All models of a server.

    Args:
        models: In the order in which they were named.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        self.all = list(models)
        self._by_name = {model.name: model for model in self.all}

    def __iter__(self) -> Any:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def named(self, name: str) -> Model:
        """The model of that name, exactly.

        Raises:
            Problem: There is none.
        """
        if name not in self._by_name:
            raise Problem(
                404,
                f"there is no model {name!r} here; use {self._names()}",
                "model_not_found",
                param="model",
            )
        return self._by_name[name]

    def find(self, name: str | None, *tasks: str) -> Model:
        """The model for a request: a single one whatever its name, else the one that is named.

        Without a name it is the only one that can do one of the tasks.

        Raises:
            Problem: There is no such model, or the choice is not clear.
        """
        if len(self.all) == 1:
            return self.all[0]
        if name:
            return self.named(name)
        able = [model for model in self.all if any(map(model.can, tasks)) or not tasks]
        # Every checkpoint embeds somehow: those with another use are not meant.
        meant = [model for model in able if model.usual_task in tasks] or able
        if len(meant) == 1:
            return meant[0]
        wanted = " or ".join(tasks)
        can = f", {len(able) or 'none'} of which can {wanted}" if tasks else ""
        raise Problem(
            400,
            f"this server has {len(self.all)} models{can}; name one as `model`, or in the path as /models/NAME/...: "
            f"{', '.join(model.name for model in able or self.all)}",
            "model_required",
            param="model",
        )

    def _names(self) -> str:
        return ", ".join(model.name for model in self.all)


def load_models(settings: Settings) -> Models:
    """Load and warm every model.

    Raises:
        InputError: Names and models don't fit together.
    """
    count = len(settings.model)
    names = settings.served_model_name
    if names and len(names) != count:
        raise InputError(f"{len(names)} names are given for {count} models; give --served-model-name once for each")
    if len(settings.revision) not in (0, 1, count):
        raise InputError(f"{len(settings.revision)} revisions are given for {count} models; give one, or one for each")
    revisions = settings.revision * count if len(settings.revision) == 1 else settings.revision or (None,) * count
    threads = settings.threads or max(1, default_threads()[0] // settings.workers)
    names = names or tuple(map(usual_name, settings.model))
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"several models are called {', '.join(sorted(twice))}; give each a --served-model-name")
    ranges = _ranges_files(settings.ranges, names)
    models = []
    for n, (name, source) in enumerate(zip(names, settings.model, strict=True)):
        encoder = Encoder.from_pretrained(
            source,
            revision=revisions[n],
            dtype=settings.dtype,
            threads=threads,
            max_length=settings.max_length,
        )
        models.append(Model(name, encoder, _read_ranges(ranges[name], encoder) if name in ranges else None))
    for model in models:
        model.warm()
    return Models(models)


def _ranges_files(given: tuple[str, ...], names: tuple[str, ...]) -> dict[str, str]:
    """The files of ranges by the model's name."""
    found = {}
    for one in given:
        name, equals, file = one.partition("=")
        if not equals or name not in names:
            if len(names) > 1:
                raise InputError(f"--ranges {one} names no model; write NAME=FILE, with one of {', '.join(names)}")
            name, file = names[0], one
        if name in found:
            raise InputError(f"--ranges is given twice for {name}; give it once for each model")
        found[name] = file
    return found


def _read_ranges(file: str, encoder: Encoder) -> FloatArray:
    try:
        with open(file, "rb") as opened:
            values = np.lib.format.read_array(opened, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"can't read the ranges in {file}: {error}; it must be a .npy file of the smallest and the largest of "
            "every value, np.stack([vectors.min(axis=0), vectors.max(axis=0)])"
        ) from None
    try:
        return check_ranges(values, encoder.embed([]).shape[1])
    except InputError as error:
        raise InputError(f"can't use {file}: {error}") from None


def usual_name(source: str) -> str:
    """What a model is called: a folder's own name, anything else as it was given."""
    from pathlib import Path

    path = Path(source)
    if not path.is_dir():
        return source
    return path.name if path.name not in ("", "..") else path.resolve().name
