"""compat.pipeline beside transformers' pipelines: the same call, the same result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from same import assert_both, assert_same
from task_checkpoints import MAX_TOKENS, TEXTS, save_task

from bothways import Encoder, compat
from bothways.compat import PipelineException
from bothways.errors import InputError, TaskError

BIO = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC", 5: "MISC"}
NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}
MORE = [
    *TEXTS,
    "ראש הממשלה נסע לירושלים.",
    "👩‍👩‍👧‍👦 flag 🇩🇪 e\u0301a\u0300 ﬁne",
    "  spaces   and\ttabs\n",
    "[SEP] 東京へ行",
]
LONG = "the quick brown fox " * 40
TYPES = ("bert", "roberta", "xlm-roberta")

Both = tuple[Any, Any]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a checkpoint with a head, each kind of them once."""
    made: dict[str, Path] = {}

    def save(model_type: str, head: str, **config: Any) -> Path:
        key = f"{model_type} {head} {config}"
        if key not in made:
            made[key] = save_task(tmp_path_factory.mktemp("checkpoint"), model_type, head, **config)
        return made[key]

    return save


def both(task: str, folder: Path, **options: Any) -> Both:
    import transformers

    ours = compat.pipeline(task, model=str(folder), **options)
    return ours, transformers.pipeline(task, model=str(folder), device="cpu", **options)


def then(read: Callable[[Any], Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """What a call gives, read in another way."""
    return lambda *args, **options: read(call(*args, **options))


def ordered(result: Any) -> Any:
    """Nearly equal scores may change places: labels in the order of their names."""
    if isinstance(result, list) and result and isinstance(result[0], dict) and "label" in result[0]:
        return sorted(result, key=lambda entry: str(entry["label"]))
    return list(map(ordered, result)) if isinstance(result, list) else result


PAIR = {"text": "a quick fox", "text_pair": "jumps"}
CLASSIFY: list[tuple[Any, dict[str, Any]]] = [
    *((inputs, {}) for inputs in ("the fox", "", TEXTS, ["the fox"], PAIR, [PAIR] * 2, ["a", PAIR], {"text": "a"})),
    *(
        (inputs, {"top_k": top_k})
        for inputs in ("the fox", TEXTS, PAIR, [PAIR])
        for top_k in (1, None, 0, 99)
    ),
    *((TEXTS, {"function_to_apply": name, "top_k": None}) for name in ("none", "softmax", "sigmoid", "SIGMOID")),
    (LONG, {"truncation": True}),
    ([LONG, "a"], {"truncation": True, "max_length": 12, "padding": True}),
    (TEXTS, {"batch_size": 2}),
    ([[["a", "b"]]], {}),
    ([["a", "b"]], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    "config", [{"num_labels": 4}, {"num_labels": 1}, {"problem_type": "multi_label_classification"}]
)
def test_texts_are_classified_as_there(make: Callable[..., Path], config: dict[str, Any]) -> None:
    ours, theirs = both("text-classification", make("bert", "classification", **config))
    for inputs, options in CLASSIFY:
        assert_both(then(ordered, ours), then(ordered, theirs), inputs, **options)
    assert [entry["score"] for entry in ours("a", top_k=None)] == sorted(
        (entry["score"] for entry in ours("a", top_k=None)), reverse=True
    )


def test_options_of_the_pipeline_hold_for_its_calls(make: Callable[..., Path]) -> None:
    folder = make("bert", "classification", num_labels=4)
    for options in ({"top_k": None}, {"top_k": 2}, {"function_to_apply": "none"}):
        ours, theirs = both("sentiment-analysis", folder, **options)
        for inputs in ("the fox", TEXTS, PAIR):
            assert_same(ordered(ours(inputs)), ordered(theirs(inputs)))
            assert_same(ordered(ours(inputs, top_k=1)), ordered(theirs(inputs, top_k=1)))


AGGREGATIONS = ("none", "simple", "first", "average", "max")
TAG: list[tuple[Any, dict[str, Any]]] = [
    *((MORE, {"aggregation_strategy": name}) for name in AGGREGATIONS),
    *((MORE, {"aggregation_strategy": name, "ignore_labels": []}) for name in AGGREGATIONS),
    *((inputs, {}) for inputs in (TEXTS[0], "", [TEXTS[0]], LONG)),
    ([LONG, "a"], {"aggregation_strategy": "simple", "ignore_labels": ["PER"]}),
    *((MORE, {"aggregation_strategy": "simple", "stride": stride}) for stride in (0, 5)),
    *((bad, {}) for bad in ([], None, 3, [3])),
    (TEXTS, {"stride": 5, "aggregation_strategy": "none"}),
    (TEXTS, {"stride": 500, "aggregation_strategy": "simple"}),
]


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_tokens_are_labelled_as_there(make: Callable[..., Path], model_type: str) -> None:
    ours, theirs = both("token-classification", make(model_type, "token_classification", id2label=BIO))
    for inputs, options in TAG:
        if options.get("stride") in (0, 5):
            # In windows spans are made otherwise; texts of one window are the same.
            inputs = [text for text in inputs if not cut(ours, text)]
        assert_both(ours, theirs, inputs, **options)


def cut(ours: Any, text: str) -> bool:
    return bool(ours.tokenizer.tokenize([text])[0].truncated)


WORDS = ["The", "naïve", "fox-trot", "(said)", "jumps!"]


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_words_are_labelled_as_there(make: Callable[..., Path], model_type: str) -> None:
    ours, theirs = both("ner", make(model_type, "token_classification", id2label=BIO))
    for aggregation in AGGREGATIONS:
        for inputs in (WORDS, [WORDS], [WORDS, ["one"]]):
            for delimiter in (None, " ", "", "--"):
                options = {"aggregation_strategy": aggregation, "is_split_into_words": True, "delimiter": delimiter}
                assert_both(ours, theirs, inputs, **options)
    with pytest.raises(ValueError, match="is no text; send a string, or words"):
        ours([WORDS])
    with pytest.raises(ValueError, match="is no list of words"):
        ours("text", is_split_into_words=True)


def test_scores_of_entities_are_numbers_for_json_that_have_an_item(make: Callable[..., Path]) -> None:
    ours = compat.pipeline("ner", make("bert", "token_classification", id2label=BIO), ignore_labels=[])
    entities = ours(TEXTS[0])
    assert json.loads(json.dumps(entities)) == entities
    assert entities[0]["score"].item() == entities[0]["score"]


def test_long_texts_are_read_whole_with_a_stride(make: Callable[..., Path]) -> None:
    ours = compat.pipeline("ner", make("bert", "token_classification", id2label=BIO), aggregation_strategy="max")
    assert ours(LONG, ignore_labels=[])[-1]["end"] < len(LONG) / 2
    found = ours(LONG, ignore_labels=[], stride=7)
    assert found[-1]["end"] == len(LONG) - 1
    spans = ours.model.tag(LONG, aggregation="max", stride=7, ignore_labels=[])[0]
    assert [(e["entity_group"], e["score"], e["start"], e["end"]) for e in found] == [
        (span.label, span.score, span.start, span.end) for span in spans
    ]


@pytest.mark.parametrize("model_type", TYPES)
def test_masks_are_filled_as_there(make: Callable[..., Path], model_type: str) -> None:
    ours, theirs = both("fill-mask", make(model_type, "masked_lm"))
    mask = "[MASK]" if model_type == "bert" else "<mask>"
    one, two = f"The {mask} fox.", f"{mask} quick {mask}!"
    for inputs in (one, two, [one], [two], [one, one], [one, two], [two, two]):
        for options in ({"top_k": 3}, {}, {"targets": ["fox", "dog"]}, {"targets": "fox", "top_k": 9}):
            assert_both(ours, theirs, inputs, **options)
    assert_both(ours, theirs, one + LONG, tokenizer_kwargs={"truncation": True})
    for bad in ("no mask", ["no mask", one]):
        with pytest.raises(PipelineException, match="No mask_token") as caught:
            ours(bad)
        assert (caught.value.task, caught.value.model) == ("fill-mask", ours.model.name)
    assert_both(ours, theirs, one, targets=[])


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_labels_of_ones_own_are_chosen_as_there(make: Callable[..., Path], model_type: str) -> None:
    ours, theirs = both("zero-shot-classification", make(model_type, "classification", id2label=NLI))
    labels = ["sports", "the weather", "🎉", "a quick brown fox"]
    texts = [*filter(None, TEXTS), LONG]
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (TEXTS[0], (labels,), {}),
        (texts, (labels,), {}),
        ([TEXTS[0]], (labels,), {"multi_label": True}),
        (texts, (), {"candidate_labels": "sports, art,, ", "hypothesis_template": "It is about {}!"}),
        (texts, (["sports"],), {}),
        (TEXTS[0], ("sports",), {"multi_label": True}),
        ("", (labels,), {}),
        (TEXTS[0], ([],), {}),
        (TEXTS[0], ("",), {}),
        (TEXTS[0], (labels,), {"hypothesis_template": "no place"}),
        (TEXTS[0], (labels, 3), {}),
        (TEXTS[0], (labels,), {"candidate_labels": labels}),
    ]
    for inputs, args, options in calls:
        assert_both(then(by_label, ours), then(by_label, theirs), inputs, *args, **options)
    result = ours(TEXTS[0], labels)
    assert result["scores"] == sorted(result["scores"], reverse=True)
    fixed = compat.pipeline("zero-shot-classification", ours.model, candidate_labels=labels)
    assert fixed(TEXTS[0]) == result
    with pytest.raises(ValueError, match="at least one label"):
        ours(TEXTS[0])


def by_label(result: Any) -> Any:
    """Nearly equal scores may change places: labels in the order of their names."""
    if isinstance(result, list):
        return list(map(by_label, result))
    together = sorted(zip(result["labels"], result["scores"], strict=True))
    return {**result, "labels": [label for label, _ in together], "scores": [score for _, score in together]}


def test_features_are_those_there(bert_folder: Path) -> None:
    ours, theirs = both("feature-extraction", bert_folder)
    for inputs in ("a text", "", TEXTS, ["a text"]):
        for options in ({}, {"return_tensors": True}, {"tokenize_kwargs": {"truncation": True, "max_length": 5}}):
            assert_both(ours, theirs, inputs, **options)
    assert_both(ours, theirs, LONG, truncation=True, tokenize_kwargs={"max_length": 64})
    assert_both(ours, theirs, "a", truncation=True, tokenize_kwargs={"truncation": True})
    assert np.shape(ours(LONG)) == (1, 64, 20)  # an error there


CONTEXT = "The quick brown fox jumps over the lazy dog. Zwölf 🎉 Boxkämpfer, naïve (ראש הממשלה) don't stop!"
QUESTION = "who jumps?"


def test_questions_are_answered_by_the_rules_of_the_former_pipeline(make: Callable[..., Path]) -> None:
    """What the answers are is tested in test_answer.py; here are the ways to ask and the shapes of results."""
    folder = make("bert", "question_answering")
    ours, model = compat.pipeline("question-answering", folder), Encoder.from_pretrained(folder)
    best = model.answer(QUESTION, CONTEXT)
    expected = {"score": best.score, "start": best.start, "end": best.end, "answer": best.text}
    sample = {"question": QUESTION, "context": CONTEXT}
    for result in (
        ours(question=QUESTION, context=CONTEXT),
        ours(QUESTION, CONTEXT),
        ours(sample),
        ours([sample]),
        ours(data=sample),
        ours(X=[sample]),
        ours(question=[QUESTION], context=CONTEXT),
    ):
        assert result == expected
    for result in (ours([sample, sample]), ours(sample, sample), ours(question=[QUESTION] * 2, context=[CONTEXT] * 2)):
        assert result == [expected, expected]
    assert ours(question=[QUESTION] * 2, context=CONTEXT) == [expected, expected]
    assert list(ours(sample for _ in range(2))) == [expected, expected]

    many = ours(sample, top_k=3)
    assert [one["answer"] for one in many] == [
        best.text,
        *(o.text for o in model.answer(QUESTION, CONTEXT, top_k=3).others),
    ]
    assert ours(sample, topk=3) == many
    assert ours({**sample, "context": "fox"}, top_k=3) == ours({**sample, "context": "fox"})  # a dict where one is all
    impossible = ours({**sample, "context": "fox"}, top_k=5, handle_impossible_answer=True)
    assert [{"start": 0, "end": 0, "answer": ""}] == [
        {k: v for k, v in one.items() if k != "score"} for one in impossible if not one["answer"]
    ]
    windows = {"max_seq_len": 20, "doc_stride": 4, "max_answer_len": 3, "align_to_words": False}
    answer = model.answer(QUESTION, CONTEXT, max_length=20, stride=4, max_answer_tokens=3, whole_words=False)
    assert ours(sample, **windows)["answer"] == answer.text


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((), {}, ValueError, "Unknown arguments"),
        ((), {"question": "a"}, ValueError, "Unknown arguments"),
        ((), {"question": ["a"], "context": ["b", "c"]}, ValueError, "don't have the same lengths"),
        ((), {"question": "a", "context": ["b"]}, ValueError, "Arguments can't be understood"),
        (({"question": "a"},), {}, KeyError, "dictionary with keys {question:..., context:...}"),
        (({"question": "", "context": "b"},), {}, ValueError, "`question` cannot be empty"),
        (({"question": "a", "context": None},), {}, ValueError, "`context` cannot be None"),
        (("a",), {}, ValueError, "'a' is no question"),
        (("a", "b"), {"top_k": 0}, ValueError, "top_k parameter should be >= 1"),
        (("a", "b"), {"max_answer_len": 0}, ValueError, "max_answer_len parameter should be >= 1"),
        (("a", "b"), {"max_seq_len": 20, "doc_stride": 21}, ValueError, "is larger than `max_seq_len`"),
    ],
)  # fmt: skip
def test_questions_that_can_t_be_understood_are_refused_as_there(
    make: Callable[..., Path], args: Any, options: Any, error: type[Exception], message: str
) -> None:
    ours = compat.pipeline("question-answering", make("bert", "question_answering"))
    with pytest.raises(error, match=message):
        ours(*args, **options)


class Items:
    """A dataset of the kind that torch has: a length, and items by number."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


@pytest.mark.parametrize(
    ("task", "head", "config", "inputs", "options"),
    [
        ("text-classification", "classification", {"id2label": NLI}, TEXTS, {"top_k": 2}),
        ("token-classification", "token_classification", {"id2label": BIO}, TEXTS, {}),
        ("fill-mask", "masked_lm", {}, ["a [MASK]", "[MASK] [MASK]"], {"top_k": 2}),
        ("zero-shot-classification", "classification", {"id2label": NLI}, ["fox", "dog"], {"candidate_labels": "a,b"}),
        ("feature-extraction", "masked_lm", {}, TEXTS, {}),
        ("question-answering", "question_answering", {}, [{"question": "a", "context": "b c"}] * 3, {}),
    ],
)
def test_streams_and_datasets_give_streams(
    make: Callable[..., Path], task: str, head: str, config: Any, inputs: list[Any], options: dict[str, Any]
) -> None:
    ours = compat.pipeline(task, make("bert", head, **config), **options)
    expected = ours(inputs)
    read: list[int] = []

    def endless() -> Iterator[Any]:
        while True:
            read.append(1)
            yield inputs[(len(read) - 1) % len(inputs)]

    stream = ours(endless())
    assert not isinstance(stream, list)
    assert [next(stream) for _ in inputs] == expected
    assert list(ours(Items(inputs))) == expected
    assert ours(tuple(inputs)) == expected
    assert list(ours(iter(inputs), batch_size=8, num_workers=2)) == expected


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "translation"}, KeyError, "Unknown task translation, available tasks are"),
        ({"task": None}, ValueError, "task is None; name one of"),
        ({"model": None}, ValueError, "Bothways has no default models"),
        ({"trust_remote_code": True}, ValueError, "trust_remote_code is True; Bothways never runs"),
        ({"tokenizer": "other"}, ValueError, "tokenizer is not the model's name"),
        ({"device": 0}, ValueError, "device is '0'; Bothways computes on the CPU"),
        ({"device_map": "cuda"}, ValueError, "device is 'cuda'"),
        ({"dtype": "float16"}, ValueError, "dtype is 'float16'"),
        ({"framework": "tf"}, ValueError, "framework is 'tf'"),
        ({"use_fast": False}, ValueError, "use_fast is False"),
        ({"config": {}}, ValueError, "config is {}; Bothways takes the checkpoint's own files"),
        ({"image_processor": "x"}, ValueError, "image_processor is 'x'; Bothways reads texts alone"),
        ({"nonsense": 1}, TypeError, "the text-classification pipeline has no argument nonsense; it has top_k"),
        ({"task": "fill-mask"}, TaskError, "it has no masked lm head"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(
    make: Callable[..., Path], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"task": "text-classification", "model": make("bert", "classification", num_labels=4), **options}
    with pytest.raises(error, match=message):
        compat.pipeline(**given)("a [MASK]")


def test_what_means_the_same_is_taken(make: Callable[..., Path]) -> None:
    import torch

    folder = str(make("bert", "classification", num_labels=4))
    expected = compat.pipeline("text-classification", folder)("a")
    for options in (
        {"tokenizer": folder, "device": -1, "framework": "pt", "dtype": torch.float32},
        {"device": torch.device("cpu"), "device_map": "auto", "model_kwargs": {"dtype": "float32"}, "batch_size": 4},
    ):
        assert compat.pipeline("text-classification", folder, **options)("a") == expected
    brief = compat.pipeline("text-classification", folder, torch_dtype=torch.bfloat16)
    assert brief.model.engine.dtype == "bfloat16"
    assert (brief.task, brief.device, brief.tokenizer) == ("text-classification", "cpu", brief.model.tokenizer)
    with pytest.raises(TypeError, match="the text-classification pipeline has no argument nonsense"):
        brief("a", nonsense=1)


def test_texts_are_cut_where_transformers_fails_and_refused_where_a_call_says_so(
    make: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    ours = compat.pipeline("text-classification", make("bert", "classification", num_labels=4))
    assert ours(LONG) == ours(LONG, truncation=True) == ours(LONG, max_length=9999)
    assert f"1 of 1 texts were longer than {MAX_TOKENS} tokens and were cut" in caplog.text
    for choice in (False, "do_not_truncate"):
        with pytest.raises(InputError, match="pass truncation=True to cut it"):
            ours(LONG, truncation=choice)
    for bad in ({"truncation": "only_second"}, {"max_length": 0}, {"top_k": 1.5}, {"function_to_apply": "tanh"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ours("a", **bad)
    assert ours([]) == []
