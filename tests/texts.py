"""Texts of many scripts and lengths, written for the tests."""

from __future__ import annotations

import random

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset the PIN of my debit card?",
    "Øre, æble, åben: three Danish words with three letters of their own.",
    "Die Straße ist wegen Überflutung gesperrt; bitte weiträumig umfahren!",
    "Le cœur a ses raisons que la raison ne connaît point.",
    "¿Dónde está la estación de autobuses más cercana?",
    "Москва не сразу строилась.",
    "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.",
    "ראש הממשלה נסע אתמול לירושלים.",
    "ذهبت القطة إلى البيت الكبير.",
    "यह किताब बहुत अच्छी है।",
    "இந்தப் புத்தகம் நன்றாக உள்ளது.",
    "আমি বাংলায় গান গাই।",
    "ฉันชอบกินข้าวผัดมาก",
    "我喜欢在下雨天读书。",
    "吾輩は猫である。名前はまだ無い。",
    "오늘 날씨가 정말 좋네요.",
    "Ես սիրում եմ կարդալ։",
    "მე მიყვარს წიგნები.",
    "ሰላም ለዓለም",
    "ខ្ញុំចូលចិត្តអាន",
    "👩‍👩‍👧‍👦 family 🎉🎉 and a flag 🇫🇷",
    "def f(x): return x ** 2  # a comment\n\tprint(f(3))",
    "2 + 2 = 4; 3.14159 ≈ π; ∑ᵢ xᵢ² ≤ ∞",
    "https://example.org/a/b?c=d&e=f#g and name@example.org",
    "[CLS] special [SEP] tokens [MASK] inside [UNK] a text",
    "ﬁne ｆｕｌｌｗｉｄｔｈ e\u0301a\u0300 \u200bzero\u200dwidth\u00a0space\x00nul",
    "",
    " ",
    "supercalifragilisticexpialidocious" * 4,
)


def varied_texts(count: int = 300) -> list[str]:
    """Texts of every script, alone, joined and cut, from nothing to past the length limit."""
    source = random.Random(11)
    texts = [*SENTENCES, " ".join(SENTENCES)]
    while len(texts) < count:
        joined = " ".join(source.choices(SENTENCES, k=source.choice((1, 1, 1, 2, 2, 3, 5))))
        texts.append(joined[source.randrange(20) : source.randrange(30, 400)])
    return texts
