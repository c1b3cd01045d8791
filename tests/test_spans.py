"""Tokens to spans on scores made by hand, with spans worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bothways.tasks.spans import Scheme, Span, TextTokens, label_spans

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def tokens(
    text: str,
    pieces: Sequence[tuple[str, str, float]],
    labels: Sequence[str] = BIO,
    *,
    marked: bool = True,
    words: list[int] | None = None,
    offsets: list[tuple[int, int]] | None = None,
) -> TextTokens:
    """Tokens that follow each other in a text, each with its spelling, its best label and that one's probability."""
    places = offsets or []
    at = 0
    if offsets is None:
        for spelled, _, _ in pieces:
            bare = spelled.removeprefix("##").removeprefix("▁").removeprefix("Ġ")
            start = text.index(bare, at)
            at = start + len(bare)
            places.append((start, at))
    scores = np.zeros((len(pieces), len(labels)), np.float32)
    for row, (_, label, score) in zip(scores, pieces, strict=True):
        row[:] = (1 - score) / (len(labels) - 1)
        row[labels.index(label)] = score
    spelled = [piece[0] for piece in pieces]
    unknown = np.array([piece == "[UNK]" for piece in spelled])
    return TextTokens(text, np.array(places, np.int64).reshape(-1, 2), scores, spelled, unknown, marked, words)


def spans(given: TextTokens, aggregation: str, labels: Sequence[str] = BIO) -> list[tuple[str, str, float]]:
    found = list(label_spans(given, Scheme(tuple(labels)), aggregation, {"O"}))
    assert all(span.text == given.text[span.start : span.end] for span in found)
    return [(span.label, span.text, round(span.score, 4)) for span in found]


NAMES = "Anna Karenina met Washington"
PIECES = [
    ("anna", "B-PER", 0.9),
    ("kare", "I-PER", 0.7),
    ("##nina", "I-LOC", 0.8),
    ("met", "O", 0.9),
    ("wash", "B-LOC", 0.6),
    ("##ington", "B-PER", 0.5),
]
LOWER = tokens(NAMES.lower(), PIECES)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (
            "none",
            [
                ("B-PER", "anna", 0.9),
                ("I-PER", "kare", 0.7),
                ("I-LOC", "nina", 0.8),
                ("B-LOC", "wash", 0.6),
                ("B-PER", "ington", 0.5),
            ],
        ),
        (
            "simple",
            [("PER", "anna kare", 0.8), ("LOC", "nina", 0.8), ("LOC", "wash", 0.6), ("PER", "ington", 0.5)],
        ),
        ("first", [("PER", "anna karenina", 0.8), ("LOC", "washington", 0.6)]),
        ("max", [("PER", "anna", 0.9), ("LOC", "karenina", 0.8), ("LOC", "washington", 0.6)]),
        # karenina: I-PER (0.7 + 0.05) / 2 = 0.375, I-LOC (0.075 + 0.8) / 2 = 0.4375.
        # washington: B-LOC (0.6 + 0.125) / 2 = 0.3625, B-PER (0.1 + 0.5) / 2 = 0.3.
        ("average", [("PER", "anna", 0.9), ("LOC", "karenina", 0.4375), ("LOC", "washington", 0.3625)]),
        ("word", [("PER", "anna karenina", 0.8), ("LOC", "washington", 0.6)]),
    ],
)
def test_sub_words_come_together(aggregation: str, expected: list[tuple[str, str, float]]) -> None:
    assert spans(LOWER, aggregation) == expected


def test_b_begins_a_span_and_another_label_ends_one() -> None:
    given = tokens(
        "a b c d e f", [("a", "B-PER", 0.5), ("b", "B-PER", 0.5), ("c", "I-PER", 0.7), ("d", "I-LOC", 0.5),
                        ("e", "O", 0.5), ("f", "I-LOC", 0.5)]
    )  # fmt: skip
    assert spans(given, "simple") == [("PER", "a", 0.5), ("PER", "b c", 0.6), ("LOC", "d", 0.5), ("LOC", "f", 0.5)]


def test_labels_without_prefixes_join_neighbours_and_keep_their_names() -> None:
    labels = ("O", "CREDIT-CARD", "NAME")
    given = tokens("a b c", [("a", "CREDIT-CARD", 0.5), ("b", "CREDIT-CARD", 0.7), ("c", "NAME", 0.5)], labels)
    assert spans(given, "simple", labels) == [("CREDIT-CARD", "a b", 0.6), ("NAME", "c", 0.5)]


@pytest.mark.parametrize(("single", "last"), [("S", "E"), ("U", "L")])
def test_iobes_and_bilou_are_understood(single: str, last: str) -> None:
    labels = ("O", "B-X", "I-X", f"{last}-X", f"{single}-X", f"{single}-Y")
    sequence = [("a", "B-X", 0.8), ("b", "I-X", 0.8), ("c", f"{last}-X", 0.5), ("d", f"{single}-X", 0.6),
                ("e", f"{single}-X", 0.7), ("f", f"{single}-Y", 0.8), ("g", "I-X", 0.9)]  # fmt: skip
    given = tokens("a b c d e f g", sequence, labels)
    expected = [("X", "a b c", 0.7), ("X", "d", 0.6), ("X", "e", 0.7), ("Y", "f", 0.8), ("X", "g", 0.9)]
    assert spans(given, "simple", labels) == expected
    assert spans(given, "word", labels) == expected


def test_labels_that_only_look_like_a_scheme_stay_whole() -> None:
    labels = ("O", "B-PER", "I-PER", "E-mail", "Street")
    given = tokens("a b", [("a", "E-mail", 0.5), ("b", "Street", 0.5)], labels)
    assert spans(given, "simple", labels) == [("E-mail", "a", 0.5), ("Street", "b", 0.5)]


def test_punctuation_is_glued_by_spaces_but_not_by_letters() -> None:
    text = "(Paris), e-mail"
    pieces = [("(", "O", 0.9), ("Paris", "B-LOC", 0.9), ("),", "O", 0.9), ("e", "B-PER", 0.8), ("-", "O", 0.6),
              ("mail", "I-PER", 0.7)]  # fmt: skip
    given = tokens(text, pieces, marked=False)
    assert spans(given, "first") == [("PER", "e-mail", 0.8)]  # transformers' heuristic loses Paris
    assert spans(given, "word") == [("LOC", "Paris", 0.9), ("PER", "e", 0.8), ("PER", "mail", 0.7)]


def test_pieces_of_a_word_are_joined_whatever_the_script() -> None:
    hebrew = "ראש ירושלים"
    pieces = [("▁ראש", "O", 0.9), ("▁ירוש", "B-LOC", 0.8), ("לים", "O", 0.9)]
    assert spans(tokens(hebrew, pieces, marked=False), "word") == [("LOC", "ירושלים", 0.8)]
    hindi = "किताब"
    pieces = [("क", "B-PER", 0.8), ("ि", "O", 0.9), ("ताब", "O", 0.9)]
    assert spans(tokens(hindi, pieces, marked=False), "word") == [("PER", "किताब", 0.8)]


def test_letters_of_scripts_without_spaces_are_not_one_word() -> None:
    pieces = [("東京", "B-LOC", 0.8), ("へ", "O", 0.9), ("行", "O", 0.9)]
    assert spans(tokens("東京へ行", pieces, marked=False), "word") == [("LOC", "東京", 0.8)]


def test_combining_marks_and_emoji_stay_whole() -> None:
    text = "e\u0301a 👍🏽 👩‍👧 🇩🇪"
    assert len(text) == 13
    at = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (7, 8), (8, 9), (9, 10), (11, 12), (12, 13)]
    names = ["B-PER", "O", "O", "B-LOC", "O", "B-PER", "O", "O", "B-LOC", "O"]
    given = tokens(text, [("x", name, 0.8) for name in names], marked=False, offsets=at)
    assert [span[1] for span in spans(given, "word")] == ["e\u0301a", "👍🏽", "👩‍👧", "🇩🇪"]


def test_one_character_in_several_tokens_is_one_word() -> None:
    given = tokens(
        "a 🎉b",
        [("a", "O", 0.9), ("Ġð", "B-PER", 0.8), ("Ł", "O", 0.9), ("İ", "O", 0.9), ("b", "O", 0.9)],
        marked=False,
        offsets=[(0, 1), (2, 3), (2, 3), (2, 3), (3, 4)],
    )
    assert spans(given, "word") == [("PER", "🎉", 0.8)]


def test_a_word_whose_first_token_is_empty_or_holds_the_space_is_found() -> None:
    empty = tokens("a Rom", [("▁a", "O", 0.9), ("▁", "B-LOC", 0.8), ("Rom", "O", 0.9)], marked=False,
                   offsets=[(0, 1), (2, 2), (2, 5)])  # fmt: skip
    assert spans(empty, "word") == [("LOC", "Rom", 0.8)]
    spaced = tokens("a Rom", [("▁a", "O", 0.9), ("▁Rom", "B-LOC", 0.8)], marked=False, offsets=[(0, 1), (1, 5)])
    assert spans(spaced, "word") == [("LOC", "Rom", 0.8)]
    assert spans(spaced, "first") == [("LOC", " Rom", 0.8)]


def test_unknown_tokens_are_words_of_their_own() -> None:
    given = tokens("ab cd", [("ab", "B-PER", 0.8), ("[UNK]", "B-LOC", 0.7)], offsets=[(0, 2), (3, 5)])
    assert spans(given, "first") == [("PER", "ab", 0.8), ("LOC", "cd", 0.7)]


def test_given_words_are_the_words() -> None:
    text = "New-York is"
    pieces = [("new", "B-LOC", 0.8), ("-", "O", 0.9), ("york", "O", 0.9), ("is", "O", 0.9)]
    given = tokens(text.lower(), pieces, words=[0, 9])
    assert spans(given, "word") == [("LOC", "new-york", 0.8)]


def test_no_tokens_give_no_spans() -> None:
    for aggregation in ("none", "simple", "first", "average", "max", "word"):
        assert spans(tokens("", []), aggregation) == []


def test_spans_are_frozen_and_compare_by_value() -> None:
    assert Span("A", 0.5, 0, 1, "a") == Span("A", 0.5, 0, 1, "a")
