"""Encoder: load a checkpoint, then one method per task. The page to read first.

Texts may be given one alone, as a list, or as an iterator; an iterator in gives an iterator out. The methods here need
a head; those that every checkpoint serves are in vectors.py; loading, and what the tasks share, is in loaded.py. Each
task is a file in tasks/.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cache
from inspect import Parameter, signature
from typing import Any

from bothways.errors import InputError
from bothways.tasks import inputs
from bothways.tasks.answer import MAX_TOKENS, Answer, AnswerOptions, Question, answer, answer_each, answering
from bothways.tasks.classify import FUNCTIONS, Label, classify
from bothways.tasks.each import Each, each
from bothways.tasks.fill_mask import Fill, fill_mask, target_ids, warn_of
from bothways.tasks.plan import Plan
from bothways.tasks.report import Progress
from bothways.tasks.rerank import Ranked, best, rerank
from bothways.tasks.spans import AGGREGATIONS, Span
from bothways.tasks.tag import TagOptions, TextOrWords, tag
from bothways.tasks.zero_shot import TEMPLATE, read_labels, read_template, zero_shot
from bothways.tokens import Cut, Text
from bothways.vectors import VectorMethods

__all__ = ["Encoder"]


class Encoder(VectorMethods):
    """A checkpoint ready to compute. Safe to use from many threads at once, and after a fork.

    A text's result is the same bits alone, in any batch and in any order.

    Attributes:
        name: The model's name as given.
        revision: The hub commit that it is, or None where it does not come from the hub.
        checkpoint: The files it came from.
        tokenizer: What turns texts into sequences.
        engine: What computes.
        tasks: The methods that this checkpoint can serve; any other is a TaskError.
        spec: What the network is, how it embeds and what heads it has.
    """

    @each(inputs.text_list, inputs.texts_and_pairs)
    def classify(
        self,
        texts: Each[Text],
        *,
        top_k: int | None = 1,
        function: str | None = None,
        truncation: Cut = True,
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> Each[list[Label]]:
        """Label texts or pairs: for each its best labels, by the rules of the checkpoint's `problem_type`.

        Scores are probabilities, a regression's the values themselves. Equal ones keep the checkpoint's order.

        Args:
            texts: A text, a pair as a tuple, a list of either, or an iterator of either.
            top_k: How many labels each text gets; None gives all.
            function: What makes scores of logits: "softmax", "sigmoid", or "identity" for the logits themselves; None
                for what the checkpoint says.
            truncation: Cut longer texts, counted in `progress` or else logged; "left" cuts their beginning, False makes
                them an InputError.
            max_length: Tokens of a sequence, special tokens included.
            progress: Called after each batch with the texts done, tokens computed and texts cut so far.
        """
        plan = self._plan_classify(top_k=top_k, function=function, truncation=truncation, max_length=max_length)
        return self._carry_out(plan, texts, progress)

    def _plan_classify(
        self, *, top_k: int | None, function: str | None, truncation: Cut, max_length: int | None
    ) -> Plan[Text, list[Label]]:
        scorer, limits = self._scorer("classify"), self._limits(truncation, max_length)
        chosen = None if function is None else inputs.one_of(function, "function", FUNCTIONS)
        return classify(scorer, limits, inputs.whole_number(top_k, "top_k"), chosen)

    @each(inputs.texts_or_words_list, inputs.texts_or_words)
    def tag(
        self,
        texts: Each[TextOrWords],
        *,
        aggregation: str = "simple",
        stride: int | None = None,
        ignore_labels: Collection[str] = ("O",),
        truncation: inputs.Truncation = "window",
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> Each[list[Span]]:
        """Find labelled spans in texts of any length: for each its spans in order, `text[start:end]` in code points.

        Args:
            texts: A text, a list of texts, or an iterator. A text may be given as its words, in a list or tuple of
                its own: then offsets are in the words joined by single spaces.
            aggregation: "none" gives every token; "simple" joins neighbours of one label, and "first", "average" and
                "max" words, labelled by their first token, by all, or by the surest one; all as in transformers.
                "word" is "first" with words told by their letters, so that punctuation never is a part of one.
            stride: Tokens that a window repeats of the one before; None for 128, or half of a small window.
            ignore_labels: Labels whose spans are left out.
            truncation: "window" reads longer texts in overlapping windows, each token labelled where it has most text
                on both sides; True cuts them, counted in `progress` or else logged, "left" cuts their beginning;
                False makes them an InputError.
            max_length: Tokens of a text or window, special tokens included.
            progress: Called after each batch with the texts done, tokens computed and texts cut so far.
        """
        plan = self._plan_tag(
            aggregation=aggregation,
            stride=stride,
            ignore_labels=ignore_labels,
            truncation=truncation,
            max_length=max_length,
        )
        return self._carry_out(plan, texts, progress)

    def _plan_tag(
        self,
        *,
        aggregation: str,
        stride: int | None,
        ignore_labels: Collection[str],
        truncation: inputs.Truncation,
        max_length: int | None,
    ) -> Plan[TextOrWords, list[Span]]:
        scorer, choice = self._scorer("tag"), inputs.read_truncation(truncation)
        limits = self._limits(True if choice == "window" else choice, max_length)
        options = TagOptions(
            aggregation=inputs.one_of(aggregation, "aggregation", AGGREGATIONS),
            window=choice == "window",
            stride=inputs.natural(stride, "stride"),
            ignore=inputs.string_set(ignore_labels, "ignore_labels"),
        )
        return tag(scorer, limits, options)

    @each(inputs.string_list, inputs.strings)
    def fill_mask(
        self,
        texts: Each[str],
        *,
        top_k: int | None = 5,
        targets: str | Collection[str] | None = None,
        truncation: Cut = True,
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> Each[list[Fill]]:
        """Find the tokens that fit where texts have a mask: for each, mask after mask, the best first.

        Args:
            texts: A text with the tokenizer's mask in it once or more, a list of texts, or an iterator.
            top_k: How many tokens each mask gets; None gives all.
            targets: Choose among these tokens only; probabilities stay those among the whole vocabulary. Of a target
                of several tokens the first one is taken, and one of none is left out; both are logged.
            truncation: Cut longer texts, counted in `progress` or else logged; "left" cuts their beginning, False makes
                them an InputError.
            max_length: Tokens of a text, special tokens included.
            progress: Called after each batch with the texts done, tokens computed and texts cut so far.
        """
        plan, remarks = self._fill_mask(top_k, targets, truncation, max_length)
        warn_of(remarks)
        return self._carry_out(plan, texts, progress)

    def _plan_fill_mask(
        self,
        *,
        top_k: int | None,
        targets: str | Collection[str] | None,
        truncation: Cut,
        max_length: int | None,
    ) -> Plan[str, list[Fill]]:
        # What there is to say of targets quotes them, and who asks for a plan serves texts that aren't his own.
        return self._fill_mask(top_k, targets, truncation, max_length)[0]

    def _fill_mask(
        self, top_k: int | None, targets: str | Collection[str] | None, truncation: Cut, max_length: int | None
    ) -> tuple[Plan[str, list[Fill]], list[str]]:
        """The plan, and what a caller should know of targets that are not tokens."""
        scorer, limits = self._scorer("fill_mask"), self._limits(truncation, max_length)
        vocabulary = self.tokenizer.vocabulary
        ids, remarks = (None, []) if targets is None else target_ids(inputs.string_list(targets), vocabulary)
        return fill_mask(scorer, limits, inputs.whole_number(top_k, "top_k"), ids), remarks

    @answering
    def answer(
        self,
        question: str | Iterable[str],
        context: str | Iterable[str],
        *,
        top_k: int = 1,
        max_answer_tokens: int = 15,
        impossible: bool = False,
        whole_words: bool = True,
        stride: int | None = None,
        truncation: inputs.Truncation = "window",
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Find the piece of a context that answers a question: an `Answer`, whose `others` are the next best.

        Lists of questions and contexts give a list, an iterator gives an iterator; one question goes with many
        contexts, and one context with many questions. Scores are those of transformers' former pipeline: shares of a
        window, added up where several windows hold the same words.

        Args:
            question: What is asked.
            context: Where the answer stands.
            top_k: How many answers to each question, the best and its `others`.
            max_answer_tokens: The most tokens of an answer.
            impossible: Also offer that there is no answer, an `Answer` whose text is empty.
            whole_words: Extend answers to whole words.
            stride: Tokens that a window repeats of the one before; None for 128, or half of a small window.
            truncation: "window" reads longer contexts in overlapping windows; True cuts them, counted in `progress` or
                else logged; False makes them an InputError.
            max_length: Tokens of a question and a window together; None for 384, or what the model takes if less.
            progress: Called after each batch with the questions done, tokens computed and contexts cut so far.
        """
        plan = self._plan_answer(
            top_k=top_k,
            max_answer_tokens=max_answer_tokens,
            impossible=impossible,
            whole_words=whole_words,
            stride=stride,
            truncation=truncation,
            max_length=max_length,
        )
        return answer_each(question, context, lambda pairs: self._carry_out(plan, pairs, progress))

    def _plan_answer(
        self,
        *,
        top_k: int,
        max_answer_tokens: int,
        impossible: bool,
        whole_words: bool,
        stride: int | None,
        truncation: inputs.Truncation,
        max_length: int | None,
    ) -> Plan[Question, Answer]:
        scorer, choice = self._scorer("answer"), inputs.read_truncation(truncation)
        if choice == "left":
            raise InputError('answers are not looked for with truncation "left"; use True, False or "window"')
        usual = self._max_length or min(MAX_TOKENS, self.tokenizer.max_tokens)
        limits = self._limits(choice is not False, usual if max_length is None else max_length)
        options = AnswerOptions(
            top_k=inputs.whole_number(top_k, "top_k") or 1,
            longest=inputs.whole_number(max_answer_tokens, "max_answer_tokens") or 15,
            impossible=inputs.flag(impossible, "impossible"),
            whole_words=inputs.flag(whole_words, "whole_words"),
            window=choice == "window",
            stride=inputs.natural(stride, "stride"),
        )
        return answer(scorer, limits, options)

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_k: int | None = None,
        raw_scores: bool = False,
        truncation: Cut = True,
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> list[Ranked]:
        """Order documents by how well they answer a query, the best first; equal scores keep the input order.

        For cross-encoders, checkpoints with one label; anything else is a TaskError. As in sentence-transformers the
        checkpoint's default prompt stands before the query, and scores go through `spec.rank_activation`.

        Args:
            query: What is asked.
            documents: A list of texts, or an iterator, of which no more than `top_k` results are kept.
            top_k: How many documents to return; None returns all.
            raw_scores: Leave scores as the network gives them.
            truncation: Cut pairs that are too long, the longer half first; "left" cuts their beginnings, False makes
                them an InputError.
            max_length: Tokens of a query and a document together, special tokens included.
            progress: Called after each batch with the documents done, tokens computed and pairs cut so far.
        """
        plan = self._plan_rerank(
            query=query, top_k=top_k, raw_scores=raw_scores, truncation=truncation, max_length=max_length
        )
        texts = inputs.strings(documents) if isinstance(documents, Iterator) else inputs.string_list(documents)
        return best(self._carry_out(plan, texts, progress), inputs.whole_number(top_k, "top_k"))

    def _plan_rerank(
        self, *, query: str, top_k: int | None, raw_scores: bool, truncation: Cut, max_length: int | None
    ) -> Plan[str, float]:
        scorer, limits = self._scorer("rerank"), self._limits(truncation, max_length)
        inputs.whole_number(top_k, "top_k")  # who has all scores sorts and cuts
        function = "identity" if inputs.flag(raw_scores, "raw_scores") else self.spec.rank_activation
        before = self.spec.embed.usual_prompt
        return rerank(before + inputs.one_string(query, "query"), scorer, limits, function=function)

    @each(inputs.string_list, inputs.strings)
    def zero_shot(
        self,
        texts: Each[str],
        labels: str | Collection[str],
        *,
        template: str = TEMPLATE,
        multi_label: bool = False,
        truncation: Cut = True,
        max_length: int | None = None,
        progress: Progress | None = None,
    ) -> Each[list[Label]]:
        """Label texts with any labels: for each all of them, the best first. For checkpoints trained on entailment.

        Scores are those of transformers' pipeline: of all labels they add up to 1, unless `multi_label`.

        Args:
            texts: A text, a list of texts, or an iterator of texts.
            labels: A list of labels, or a string with commas between them.
            template: The sentence that a label makes, with one {} where the label goes and no other braces.
            multi_label: Score every label on its own, as several may hold.
            truncation: Cut longer texts, with "left" their beginning, never the label's sentence; False makes them an
                InputError.
            max_length: Tokens of a text and a sentence together, special tokens included.
            progress: Called after each batch with the texts done, tokens computed and texts cut so far.
        """
        plan = self._plan_zero_shot(
            labels=labels, template=template, multi_label=multi_label, truncation=truncation, max_length=max_length
        )
        return self._carry_out(plan, texts, progress)

    def _plan_zero_shot(
        self,
        *,
        labels: str | Collection[str],
        template: str,
        multi_label: bool,
        truncation: Cut,
        max_length: int | None,
    ) -> Plan[str, list[Label]]:
        scorer, limits = self._scorer("zero_shot"), self._limits(truncation, max_length)
        names, sentence = read_labels(labels), read_template(template)
        return zero_shot(names, sentence, scorer, limits, multi_label=inputs.flag(multi_label, "multi_label"))

    def plan(self, task: str, /, **options: Any) -> Plan[Any, Any]:
        """Check a call of a task and return it as a plan, for those who move texts themselves, as a server does.

        To carry a plan out, tokenize texts, compute their sequences, be it together with those of other plans of an
        equal `group`, and finish them; see `Plan`. Every thread may do so at once. Results are those of the method of
        the task's name, text by text: "embed" gives (D,), a `SparseEmbedding` or (n, D), "encode" a `TextRows`, and
        "rerank" a score, as to sort documents takes all of them. Texts are taken as strings, for "classify" and
        "encode" also as pairs (tuples), for "tag" as tuples of words, and for "answer" as (question, context).

        Args:
            task: "embed", "encode", "classify", "tag", "fill_mask", "answer", "rerank" or "zero_shot".
            options: Those of the method without its texts and `progress`; "rerank" takes its `query` here, and
                "zero_shot" its `labels`.

        Raises:
            InputError: The task or an option is unknown, or an option's value can't be used. So it is with the
                precisions that take their ranges from all embeddings, where `ranges` is not given.
            TaskError: The checkpoint can't serve the task.
        """
        if task not in _PLANNED:
            raise InputError(f"task is {inputs.shown(task)}; use {', '.join(_PLANNED)}")
        usual = _options(task)
        unknown = [name for name in options if name not in usual]
        if unknown:
            raise InputError(f"{task} has no option {', '.join(unknown)}; it has {', '.join(usual)}")
        given = {**usual, **options}
        missing = [name for name, value in given.items() if value is Parameter.empty]
        if missing:
            raise InputError(f"{task} needs {', '.join(missing)}; pass {missing[0]}=...")
        plan: Plan[Any, Any] = getattr(self, f"_plan_{task}")(**given)
        return plan


_PLANNED = ("encode", "embed", "classify", "tag", "fill_mask", "answer", "rerank", "zero_shot")


@cache
def _options(task: str) -> dict[str, Any]:
    """A task's options and what they are where they are not given, as its method has them."""
    apart = ("self", "texts", "documents", "question", "context", "progress")
    parameters = signature(getattr(Encoder, task)).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in apart}
