"""The fast path gives the ids of `tokenizers`, for every character, and leaves to it what it isn't certain about."""

from __future__ import annotations

import os
import random
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tokenizers
from test_tokens import spec
from texts import varied_texts
from tokenizer_folders import TEXTS, TRAINING, save, train_bert, train_roberta
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from bothways.errors import InputError
from bothways.tokens import Tokenizer

pytest.importorskip("bothways._native", reason="the native engine is not built")
from bothways.wordpiece import FastWordPiece

#: How often the differential test draws its texts anew; `make fuzz` asks for more.
ROUNDS = int(os.environ.get("BOTHWAYS_FUZZ_ROUNDS", "1"))

NORMALIZERS = {
    "uncased": normalizers.BertNormalizer(),
    "cased": normalizers.BertNormalizer(lowercase=False),
    "cased, accents stripped": normalizers.BertNormalizer(lowercase=False, strip_accents=True),
    "uncased, accents kept": normalizers.BertNormalizer(strip_accents=False),
    "Chinese words whole": normalizers.BertNormalizer(handle_chinese_chars=False),
    "control characters kept": normalizers.BertNormalizer(clean_text=False),
    "lower case first": normalizers.Sequence([normalizers.Lowercase(), normalizers.BertNormalizer(lowercase=False)]),
}

#: Characters that meet in words: letters and their marks of one script each, and what is special everywhere.
SCRIPTS = {
    "latin": "aàâãäåāăąæbcçćdefgğhiıİjklłmnñoöøőœpqrsßşšẞtuüvwxyžǅﬁﬀ",
    "greek": "αάβγδεζηθικλμνξοπρσςτυφχψωΏΣἀἁἂᾳῷ",
    "cyrillic": "абвгдеёжзийклмнопрстуфхцчшщъыьэюяЙЁіїўҐ",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهويءآأؤإئ،؟٠١٢ﷺ",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשתםןץ",
    "indic": "अआइकखगघचजटडणतदनपबमयरलवशषसहक़ड़য়ৎতকখগઅઆકஅஆகఅఆకಅಆಕഅആകකਖ਼",
    "thai": "กขคงจฉชซญดตถทนบปผฝพฟภมยรลวศษสหอะาเแโใไำๆ๐๑",
    "east asian": "我喜欢在下雨天读书吾輩は猫であるカタカナｶﾀｶﾅガギ゛゜々한국어시험각닭각㍿㊙豈\U00020000\U0002f800",
    "others": "ქართულիհայერեნአማርኛខ្មែរລາວမြန်မာབོདᏣᎳᎩꭰⴰⵎⵣ𐐀𐐨𝒜𝔅①Ⅷ½",
    "marks": "\u0300\u0301\u0307\u0308\u0323\u0327\u0345\u05b0\u05bc\u064b\u0651\u093c\u094d\u09cd\u0e38\u0e48\u3099"
    "\u302e\u20dd\U0001d165",
    "signs": " \t\n\r\u00a0\u2003\u3000\u2028\u200b\u200d\u00ad\ufeff\x00\x01\x7f\x85\ufffd"
    ".,;:!?'\"()[]{}<>-–—_…·•#$%&*+/=@^`|~\\§©®°±×÷¿¡「」、。，！～",
    "emoji": "😀👍🏽👩👧❤️🇩🇪🏴",
}


@pytest.fixture(scope="module")
def vocabulary(request: pytest.FixtureRequest) -> dict[str, int]:
    """Pieces of every script, some of them long, some prefixes of others."""
    raw = train_bert(False)
    words = dict(raw.get_vocab(with_added_tokens=False))
    for letters in SCRIPTS.values():
        for letter in letters:
            for form in {letter, letter.lower(), unicodedata.normalize("NFD", letter)[0]}:
                words.setdefault(form, len(words))
                words.setdefault(f"##{form}", len(words))
    return words


def build(vocabulary: dict[str, int], normalizer: normalizers.Normalizer) -> tokenizers.Tokenizer:
    raw = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizer
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("[CLS]", "[SEP]", "[MASK]")])
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return raw


def fast_path(raw: tokenizers.Tokenizer) -> FastWordPiece:
    made = FastWordPiece.for_tokenizer(raw)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def uncased(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    return build(vocabulary, NORMALIZERS["uncased"])


@pytest.fixture(scope="module", params=NORMALIZERS)
def raw(request: pytest.FixtureRequest, vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    return build(vocabulary, NORMALIZERS[request.param])


@pytest.fixture(scope="module")
def fast(raw: tokenizers.Tokenizer) -> FastWordPiece:
    return fast_path(raw)


def compare(raw: tokenizers.Tokenizer, fast: FastWordPiece, texts: list[str], note: object = "") -> float:
    """Check every text that the fast path takes; return the share that it took."""
    taken = 0
    for text, found in zip(texts, fast.encode(texts, 1_000_000), strict=True):
        if found is not None:
            assert (found[0].tolist(), found[1]) == (raw.encode(text).ids, 0), f"{text!r} {note}"
            taken += 1
    return taken / max(1, len(texts))


def test_every_character_gives_the_ids_of_tokenizers(raw: tokenizers.Tokenizer, fast: FastWordPiece) -> None:
    scripts = [chr(code) for code in range(0x3400)]
    rest = [chr(code) for code in range(0x3400, sys.maxunicode + 1, 37) if not 0xD800 <= code <= 0xDFFF]
    texts = [f"a{character}b {character}" for character in scripts + rest]
    assert compare(raw, fast, texts) > 0.1


@pytest.mark.parametrize("script", SCRIPTS)
def test_mixtures_of_a_script_give_the_ids_of_tokenizers(
    raw: tokenizers.Tokenizer, fast: FastWordPiece, script: str
) -> None:
    for seed in range(ROUNDS):
        source = random.Random(f"{script} {seed}")
        letters = SCRIPTS[script] * 6 + SCRIPTS["signs"] + SCRIPTS["latin"] + SCRIPTS["emoji"]
        # Half of the texts have marks in strange places and orders.
        pools = (letters, letters + SCRIPTS["marks"] * 2)
        texts = ["".join(source.choices(source.choice(pools), k=source.randrange(1, 60))) for _ in range(400)]
        taken = compare(raw, fast, texts, f"(seed {seed})")
        assert taken > (0 if script == "marks" else 0.1)


def test_sentences_give_the_ids_of_tokenizers(raw: tokenizers.Tokenizer, fast: FastWordPiece) -> None:
    assert compare(raw, fast, [*TEXTS, *TRAINING, *varied_texts()]) > 0.5


def test_an_uncased_tokenizer_takes_nearly_all_sentences(uncased: tokenizers.Tokenizer) -> None:
    fast = fast_path(uncased)
    assert compare(uncased, fast, [text for text in varied_texts() if "[" not in text]) > 0.99


@pytest.mark.parametrize("text", ["[MASK]", "x[MASK]y", "a [SEP][SEP] b", "[CLS", "[mask]", "[[MASK]"])
def test_added_tokens_are_left_to_tokenizers(uncased: tokenizers.Tokenizer, text: str) -> None:
    fast = fast_path(uncased)
    has_one = any(token in text for token in ("[CLS]", "[SEP]", "[MASK]"))
    for found in fast.encode([text, "and a text beside it"], 100)[:1]:
        assert (found is None) == has_one
        assert found is None or found[0].tolist() == uncased.encode(text).ids


@pytest.mark.parametrize("length", [99, 100, 101, 102, 150, 400])
@pytest.mark.parametrize("letter", ["a", "ß", "我", "\u0915", "😀"])
def test_words_of_more_than_100_characters_are_unknown(vocabulary: dict[str, int], length: int, letter: str) -> None:
    raw = build(vocabulary, NORMALIZERS["Chinese words whole"])
    fast = fast_path(raw)
    assert compare(raw, fast, [letter * length, f"so {letter * length}, yes", "a" * length + letter]) == 1


def test_the_longest_piece_wins_and_a_word_is_unknown_as_a_whole() -> None:
    names = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "unaff", "##aff", "##able", "##a", "a", "##b", "#", "able"]
    raw = build({name: number for number, name in enumerate(names)}, NORMALIZERS["uncased"])
    fast = fast_path(raw)
    words = {
        "unaffable": [5, 7],
        "unaff": [5],
        "unb": [4, 10],
        "unc": [0],
        "able un": [12, 4],
        "##a": [11, 11, 9],
        "uN": [4],
    }
    for text, expected in words.items():
        found = fast.encode([text], 10)[0]
        assert found is not None
        assert found[0].tolist() == [1, *expected, 2]


@pytest.mark.parametrize("limit", [3, 4, 10, 11, 12, 13])
def test_long_texts_are_cut_and_what_is_cut_is_counted(uncased: tokenizers.Tokenizer, limit: int) -> None:
    fast = fast_path(uncased)
    text = "a b c d e f g h i j"  # 12 tokens
    whole = uncased.encode(text).ids
    found, short = fast.encode([text, ""], limit)
    assert found is not None and short is not None
    kept = min(limit, 12)
    assert found[0].tolist() == [*whole[: kept - 1], whole[-1]]
    assert found[1] == 12 - kept
    assert (short[0].tolist(), short[1]) == ([whole[0], whole[-1]], 0)


def test_many_threads_teach_it_at_once(uncased: tokenizers.Tokenizer) -> None:
    fast = fast_path(uncased)
    texts = [f"{chr(code)} {chr(code + 1)}{chr(code + 2)}" for code in range(0x20, 0x2000, 3)]
    orders = [random.Random(seed).sample(texts, len(texts)) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda order: [fast.encode([text], 100)[0] for text in order], orders))
    taken = 0
    for order, result in zip(orders, results, strict=True):
        for text, found in zip(order, result, strict=True):
            taken += found is not None
            assert found is None or found[0].tolist() == uncased.encode(text).ids
    assert taken > 0.5 * len(texts) * len(orders)


OTHER_KINDS = ("normalizer", "splitter", "added", "types", "twice", "padded", "long words", "bpe")


def other_kinds(vocabulary: dict[str, int]) -> dict[str, tokenizers.Tokenizer]:
    """Tokenizers that do something the fast path knows nothing of."""
    made = {kind: build(vocabulary, normalizers.BertNormalizer()) for kind in OTHER_KINDS if kind != "bpe"}
    made["normalizer"].normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer()])
    made["splitter"].pre_tokenizer = pre_tokenizers.Whitespace()
    made["added"].add_tokens([AddedToken("Brown Fox", normalized=True)])
    made["types"].post_processor = processors.TemplateProcessing(
        single="[CLS] $A:1 [SEP]:1", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made["twice"].post_processor = processors.TemplateProcessing(
        single="[CLS] $A $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made["padded"].enable_padding()
    made["long words"].model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100_000)
    return made | {"bpe": train_roberta()}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_tokenizers_have_no_fast_path(vocabulary: dict[str, int], kind: str) -> None:
    assert FastWordPiece.for_tokenizer(other_kinds(vocabulary)[kind]) is None


def test_a_tokenizer_gives_the_same_sequences_with_it_and_without(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    texts = [*TEXTS, *varied_texts(), "many words " * 4000]
    for limit in (2, 3, 8, 40, 512):
        tokenizer = Tokenizer.from_folder(folder, spec())
        if limit == 2:
            with pytest.raises(InputError, match="leaves no room"):
                tokenizer.tokenize(texts, max_length=limit, spans=False)
            continue
        with_spans = tokenizer.tokenize(texts, max_length=limit)
        ids_alone = tokenizer.tokenize(texts, max_length=limit, spans=False)
        assert tokenizer._fast_made and tokenizer._fast is not None
        for one, other in zip(with_spans, ids_alone, strict=True):
            assert one.ids.tolist() == other.ids.tolist()
            assert one.token_types.tolist() == other.token_types.tolist()
            assert one.truncated == other.truncated


def test_too_long_and_unusable_texts_are_refused_as_without_it(tmp_path: Path) -> None:
    folder = save(train_bert(False), tmp_path, class_name="BertTokenizer", model_type="bert", old_files=False)
    tokenizer = Tokenizer.from_folder(folder, spec())
    many = ["the quick " * 40] * 100
    tokenizer.tokenize(many, spans=False)
    assert tokenizer._fast_made and tokenizer._fast is not None
    short = ["the quick"] * 100
    with pytest.raises(InputError, match=r"text 107 has 302 tokens, max_length is 10"):
        tokenizer.tokenize([*short, "a " * 300], max_length=10, truncation=False, first=7, spans=False)
    with pytest.raises(InputError, match=r"text 100 has a lone surrogate U\+D800 at character 2"):
        tokenizer.tokenize([*many, "ab\ud800"], spans=False)
    with pytest.raises(InputError, match="text 100 is a int"):
        tokenizer.tokenize([*many, 3], spans=False)  # type: ignore[list-item]
