"""What the fields of requests mean and an example of each, by name: a name means the same in every route.

Where a field says so itself (`msgspec.Meta`), that holds.
"""

from __future__ import annotations

from typing import Any

__all__ = ["EXAMPLES", "MEANINGS"]

MEANINGS = {
    "add_special_tokens": "Also give the special tokens around a text; true unless it is false.",
    "aggregation": "What makes spans of tokens: none, simple, first, average, max or word.",
    "aggregation_strategy": "What makes spans of tokens; simple if it is left out.",
    "align_to_words": "Extend answers to whole words.",
    "attentions": "Also give every layer's attention probabilities.",
    "candidate_labels": "Labels of your choice, as a list or with commas between them.",
    "dimensions": "Keep the first so many values of a vector; scaling to length 1 comes after the cut.",
    "doc_stride": "Tokens that a window of a long context repeats of the one before.",
    "embedding_types": "The forms that vectors are given in; int8 and uint8 where the server has ranges for them.",
    "encoding_format": "float: lists of numbers; base64: the bytes of little-endian numbers.",
    "function": "What makes scores of logits: softmax, sigmoid or identity.",
    "function_to_apply": "What makes scores of logits; none leaves them as they are.",
    "handle_impossible_answer": "Also offer that there is no answer.",
    "hidden_states": "Also give every layer's output.",
    "hypothesis_template": "The sentence that a label makes, with {} where the label goes.",
    "ignore_labels": "Labels whose spans are left out.",
    "impossible": "Also offer that there is no answer, an empty text.",
    "input_type": "The side of a search, query or document, whose prompt is put in front if the model has one.",
    "max_answer_len": "The most tokens of an answer.",
    "max_answer_tokens": "The most tokens of an answer.",
    "max_chunks_per_doc": "Taken, and without effect: a document is read as one.",
    "max_length": "The most tokens of a text or window, special tokens included.",
    "max_seq_len": "The most tokens of a question and a window together.",
    "max_tokens": "The most tokens that are read of a text.",
    "max_tokens_per_doc": "The most tokens that are read of a document.",
    "model": "The model's name, where the server has several.",
    "multi_label": "Score every label on its own, as several may hold.",
    "normalize": "Scale every vector to length 1.",
    "output_dimension": "Keep the first so many values of a vector.",
    "pooling": "What makes one vector of tokens' vectors; several are put end to end.",
    "precision": "The kind of number that vectors are given in; int8 and uint8 where there are ranges for them.",
    "prompt": "Put in front of every text; wins over `prompt_name`.",
    "prompt_name": "The name of one of the model's prompts, which is put in front of every text.",
    "ranges": "For int8 and uint8: a list of the smallest values and a list of the largest; else the server's own.",
    "rank_fields": "Of a document that is an object, the fields to read; `text` if it is left out.",
    "raw_scores": "Leave scores as the network gives them.",
    "return_documents": "Give the documents back too.",
    "return_text": "Give the texts back too.",
    "skip_special_tokens": "Leave special tokens out of the texts; true unless it is false.",
    "sparse": "Give each text's weighted terms (SPLADE).",
    "stride": "Tokens that a window repeats of the one before.",
    "targets": "Choose among these tokens only.",
    "template": "The sentence that a label makes, with {} where the label goes.",
    "tokens": "Give each text's token vectors.",
    "top_k": "How many results each text, mask or query gets.",
    "top_n": "How many documents to return; all if it is left out.",
    "truncate": "Cut texts that are too long, or else refuse them; the server's settings say which if it is left out.",
    "truncation": "true: cut texts that are too long; left: cut their beginning; window: read them piece by piece; "
    "false: refuse them.",
    "truncation_direction": "The side that long texts are cut at.",
    "user": "Taken, and without effect.",
    "whole_words": "Extend answers to whole words.",
}

EXAMPLES: dict[str, Any] = {
    "a": ["The cat sleeps."],
    "b": ["A kitten is asleep.", "Shares fell sharply."],
    "candidate_labels": ["travel", "food", "sport"],
    "context": "The library opens at nine and closes at six.",
    "documents": ["The library opens at nine.", "Cats sleep a lot."],
    "ids": [101, 7592, 102],
    "input": ["The cat sleeps.", "Shares fell sharply."],
    "inputs": "The cat sleeps on the sofa in Berlin.",
    "instances": [{"inputs": "The cat sleeps."}],
    "labels": ["travel", "food", "sport"],
    "query": "When does the library open?",
    "question": "When does the library open?",
    "sentences": ["A kitten is asleep.", "Shares fell sharply."],
    "source_sentence": "The cat sleeps.",
    "texts": ["The library opens at nine.", "Cats sleep a lot."],
}
