"""What a dtype costs in quality: cosine to float32, Banking77 accuracy and SciFact nDCG@10, beside float32's own."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import MODEL, WORKLOADS, arguments, read_workload, save

from bothways import Encoder
from bothways.spec import DTYPES

#: How many points (hundredths) a dtype may lose against float32.
ALLOWED_POINTS = 0.5


def cosines(vectors: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, float]:
    """Smallest and mean cosine between normalized embeddings of all workloads."""
    values = np.concatenate([(vectors[name] * exact[name]).sum(axis=1) for name in exact])
    return {"smallest": round(float(values.min()), 5), "mean": round(float(values.mean()), 5)}


def read_banking(folder: Path, part: str) -> tuple[list[str], np.ndarray]:
    with (folder / "banking77" / f"{part}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([row["category"] for row in rows])


def banking_accuracy(encoder: Encoder, folder: Path) -> float:
    """Mean accuracy of ten classifiers, each trained on 8 queries an intent (the MTEB protocol)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    (texts, labels), (test_texts, test_labels) = (read_banking(folder, part) for part in ("train", "test"))
    train, test = encoder.embed(texts), encoder.embed(test_texts)
    order, scores = list(range(len(texts))), []
    for _ in range(10):
        np.random.RandomState(42).shuffle(order)  # goes on from the last draw's order
        count: dict[str, int] = {}
        chosen = []
        for row in order:
            if count.get(labels[row], 0) < 8:
                count[labels[row]] = count.get(labels[row], 0) + 1
                chosen.append(row)
        classifier = LogisticRegression(max_iter=100, random_state=42)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(train[chosen], labels[chosen])
        scores.append(float((classifier.predict(test) == test_labels).mean()))
    return float(np.mean(scores))


def scifact_ndcg(encoder: Encoder, folder: Path) -> float:
    """nDCG@10 of the test claims over all abstracts."""
    base = folder / "scifact"
    corpus = [json.loads(line) for line in (base / "corpus.jsonl").read_text().splitlines()]
    queries = {q["_id"]: q["text"] for q in map(json.loads, (base / "queries.jsonl").read_text().splitlines())}
    relevant: dict[str, dict[str, int]] = {}
    for line in (base / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, score = line.split("\t")
        relevant.setdefault(query, {})[document] = int(score)
    documents = encoder.embed([f"{entry['title']} {entry['text']}" for entry in corpus])
    claims = encoder.embed([queries[query] for query in relevant])
    discount = 1 / np.log2(np.arange(2, 12))  # ranks 1 to 10
    values = []
    for claim, judged in zip(claims, relevant.values(), strict=True):
        best = np.argsort(-(documents @ claim), kind="stable")[:10]
        gains = np.array([judged.get(corpus[i]["_id"], 0) for i in best])
        ideal = np.sort(list(judged.values()))[::-1][:10]
        values.append((gains * discount).sum() / (ideal * discount[: len(ideal)]).sum())
    return float(np.mean(values))


def main() -> None:
    parser = arguments(__doc__ or "")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    exact: dict[str, np.ndarray] = {}
    for dtype in DTYPES:
        encoder = Encoder.from_pretrained(MODEL, dtype=dtype, threads=options.threads)
        vectors = {name: encoder.embed(read_workload(options.data, name)) for name in WORKLOADS}
        exact = exact or vectors
        found[dtype] = {
            "cosine": cosines(vectors, exact),
            "banking77_accuracy": round(banking_accuracy(encoder, options.data), 5),
            "scifact_ndcg10": round(scifact_ndcg(encoder, options.data), 5),
        }
        print(dtype, found[dtype], flush=True)
    for dtype, figures in found.items():
        lost = {
            name: round(100 * (found["float32"][name] - figures[name]), 2)
            for name in ("banking77_accuracy", "scifact_ndcg10")
        }
        figures["points_lost"] = lost
        verdict = "within" if max(lost.values()) <= ALLOWED_POINTS else "NOT within"
        print(f"{dtype}: points lost {lost}, {verdict} {ALLOWED_POINTS}")
    save("quality", {"model": "all-MiniLM-L6-v2", "level": encoder.engine.level, "dtypes": found}, options)


if __name__ == "__main__":
    main()
