"""`pipeline` with the tasks, arguments and results of transformers 5.23, over `Encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bothways.compat.loading import load, read_device, read_dtype, refuse, take_dtype
from bothways.compat.pipelines.base import Pipeline, PipelineException
from bothways.compat.pipelines.feature_extraction import FeatureExtractionPipeline
from bothways.compat.pipelines.fill_mask import FillMaskPipeline
from bothways.compat.pipelines.question_answering import QuestionAnsweringPipeline
from bothways.compat.pipelines.text_classification import TextClassificationPipeline
from bothways.compat.pipelines.token_classification import TokenClassificationPipeline
from bothways.compat.pipelines.zero_shot_classification import ZeroShotClassificationPipeline

__all__ = ["Pipeline", "PipelineException", "pipeline"]

_PIPELINES: dict[str, type[Pipeline]] = {
    made.task: made
    for made in (
        FeatureExtractionPipeline,
        FillMaskPipeline,
        QuestionAnsweringPipeline,
        TextClassificationPipeline,
        TokenClassificationPipeline,
        ZeroShotClassificationPipeline,
    )
}
_ALIASES = {"ner": "token-classification", "sentiment-analysis": "text-classification"}


def pipeline(
    task: str | None = None,
    model: Any = None,
    config: Any = None,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    processor: Any = None,
    framework: str | None = None,
    revision: str | None = None,
    use_fast: bool = True,
    token: str | bool | None = None,
    device: Any = None,
    device_map: Any = None,
    dtype: Any = "auto",
    torch_dtype: Any = None,
    trust_remote_code: bool | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    pipeline_class: Any = None,
    **options: Any,
) -> Pipeline:
    """Load a model for a task.

    Args:
        task: One of "feature-extraction", "fill-mask", "question-answering", "text-classification" (or
            "sentiment-analysis"), "token-classification" (or "ner") and "zero-shot-classification".
        model: A folder, a hub name, "pkg:package/folder", or an `Encoder`.
        config: Refused: the checkpoint's own is taken.
        tokenizer: The model's name again, or None; the checkpoint's own is taken.
        feature_extractor: Refused, as there is none.
        image_processor: Refused, as there is none.
        processor: Refused, as there is none.
        framework: "pt" or None.
        revision: The hub name's branch, tag or commit.
        use_fast: True.
        token: What the hub knows the user by.
        device: "cpu", -1 or None.
        device_map: "cpu", "auto" or None.
        dtype: "auto" and None are float32; else "float32", "bfloat16", "int8", or torch's own.
        torch_dtype: The same, by its old name.
        trust_remote_code: Refused where true.
        model_kwargs: Of it, dtype alone has a meaning.
        pipeline_class: Refused.
        options: The pipeline's own, which hold for every call that does not say otherwise.

    Raises:
        KeyError: The task is none of these; ValueError where none is named.
        TypeError: The pipeline has no such option.
        ValueError: An argument has no meaning to Bothways; the message names it.
        TaskError: The checkpoint has no head for the task.
    """
    if task is None:
        raise ValueError(f"task is None; name one of {', '.join([*_PIPELINES, *_ALIASES])}")
    known = _ALIASES.get(task or "", task)
    if known not in _PIPELINES:
        raise KeyError(f"Unknown task {task}, available tasks are {sorted([*_PIPELINES, *_ALIASES])}")
    if model is None:
        raise ValueError("model is None; name one, as Bothways has no default models")
    refuse("Bothways never runs a checkpoint's own code", trust_remote_code=trust_remote_code)
    refuse("Bothways takes the checkpoint's own files", config=config, feature_extractor=feature_extractor)
    refuse("Bothways reads texts alone", image_processor=image_processor, processor=processor)
    refuse("Bothways has pipelines of its own", pipeline_class=pipeline_class)
    if tokenizer is not None and tokenizer != model:
        raise ValueError("tokenizer is not the model's name; Bothways takes the checkpoint's own, so leave it out")
    if framework not in (None, "pt"):
        raise ValueError(f"framework is {framework!r}; leave it out")
    if not use_fast:
        raise ValueError("use_fast is False; Bothways has fast tokenizers alone")
    read_device(device)
    read_device(None if device_map == "auto" else device_map)
    own = {name: options.pop(name) for name in ("cache_folder", "local_files_only") if name in options}
    encoder = load(model, revision=revision, token=token, dtype=_dtype(dtype, torch_dtype, model_kwargs), **own)
    return _PIPELINES[known](encoder, **options)


def _dtype(dtype: Any, torch_dtype: Any, model_kwargs: Mapping[str, Any] | None) -> str:
    given = torch_dtype if dtype in (None, "auto") else dtype
    return take_dtype(model_kwargs) if given is None else read_dtype(given)
