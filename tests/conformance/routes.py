"""Every POST route: a request that it can answer, its optional fields, and whose form its errors have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TEXT = "the lazy dog"
QUERY = "who jumps?"
DOCUMENTS = ["a lazy dog", "the quick brown fox", "over"]
PAIR = {"source_sentence": TEXT, "sentences": DOCUMENTS}

TRUNCATE = ("truncate", "truncation_direction")


@dataclass(frozen=True)
class Route:
    """A route of one task.

    Attributes:
        path: Where it is.
        body: A request that is answered.
        texts: The field that holds texts, a list of which may be empty; "" where there is none.
        model: The model that can answer.
        nulls: Optional fields, for which null says as much as nothing.
        inner: Optional fields of "parameters", likewise.
        nested: The answer's errors are {"error": {...}} rather than {"error": "..."}.
        refuses: The status where a model has no head for the task; 0 where every model can do it.
    """

    path: str
    body: dict[str, Any]
    texts: str = "inputs"
    model: str = "minilm"
    nulls: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    nested: bool = False
    refuses: int = 0
    named: bool = field(default=False)

    def __str__(self) -> str:
        """The path and what tells routes of one path apart."""
        return f"{self.path}:{self.texts or 'ids'}"

    def with_model(self, model: str | None = None) -> tuple[str, dict[str, Any]]:
        """The path and the body that name a model, in the body where the client would."""
        if self.named:
            return self.path, self.body | {"model": model or self.model}
        return f"/models/{model or self.model}{self.path.rstrip('/')}", self.body


def _pipeline(task: str, model: str, inputs: Any, parameters: dict[str, Any], *inner: str) -> Route:
    body = {"inputs": inputs, "parameters": parameters}
    return Route(f"/pipeline/{task}", body, "inputs", model, (), inner, False, 424)


def _own(task: str, model: str, body: dict[str, Any], texts: str, *nulls: str) -> Route:
    every = task in ("embed", "encode", "similarity")
    return Route(f"/tasks/{task}", body, texts, model, nulls, (), False, 0 if every else 424, True)


_EMBED = (*TRUNCATE, "prompt_name", "prompt", "normalize", "dimensions", "encoding_format", "input_type")
_OPENAI = ("user", *_EMBED)
_COHERE = ("top_n", "return_documents", "max_tokens_per_doc", "rank_fields", "max_chunks_per_doc", "raw_scores")
_CUT = ("truncation", "max_length")

ROUTES = [
    *(Route(path, {"input": TEXT}, "input", "prompts", _OPENAI, (), True, 0, True) for path in
      ("/v1/embeddings", "/embeddings")),
    Route("/embed", {"inputs": TEXT}, "inputs", "prompts", _EMBED),
    Route("/embed_all", {"inputs": TEXT}, "inputs", "prompts", (*TRUNCATE, "prompt_name")),
    Route("/embed_sparse", {"inputs": TEXT}, "inputs", "masks", (*TRUNCATE, "prompt_name"), refuses=424),
    Route("/predict", {"inputs": TEXT}, "inputs", "moods", (*TRUNCATE, "raw_scores"), refuses=424),
    Route("/rerank", {"query": QUERY, "texts": DOCUMENTS}, "texts", "cross", (*TRUNCATE, "raw_scores", "return_text"),
          refuses=424),
    Route("/similarity", {"inputs": PAIR}, "", "prompts", ("parameters",)),
    Route("/tokenize", {"inputs": TEXT}, "inputs", "prompts", ("add_special_tokens", "prompt_name")),
    Route("/decode", {"ids": [5, 6, 7]}, "", "prompts", ("skip_special_tokens",)),
    Route("/", {"inputs": TEXT}, "inputs", "prompts", _EMBED),
    Route("/invocations", {"inputs": TEXT}, "inputs", "prompts", _EMBED),
    Route("/vertex", {"instances": [{"inputs": TEXT}]}, "instances", "prompts"),
    *(Route(path, {"query": QUERY, "documents": DOCUMENTS}, "documents", "cross", _COHERE, (), True, 400, True)
      for path in ("/rerank", "/v1/rerank", "/v2/rerank")),
    Route("/v2/embed", {"texts": [TEXT], "input_type": "classification"}, "texts", "prompts",
          ("embedding_types", "truncate", "output_dimension"), (), True, 0, True),
    Route("/classify", {"input": [TEXT]}, "input", "moods", ("raw_scores",), (), True, 400, True),
    _pipeline("text-classification", "moods", TEXT, {}, "top_k", "function_to_apply"),
    _pipeline("token-classification", "entities", TEXT, {}, "aggregation_strategy", "ignore_labels", "stride"),
    _pipeline("zero-shot-classification", "nli", TEXT, {"candidate_labels": ["dog", "fox"]}, "multi_label",
              "hypothesis_template"),
    _pipeline("fill-mask", "masks", "the [MASK] dog", {}, "targets", "top_k"),
    Route("/pipeline/feature-extraction", {"inputs": TEXT}, "inputs", "prompts", _EMBED),
    Route("/pipeline/sentence-similarity", {"inputs": PAIR, "parameters": {}}, "", "prompts"),
    Route("/pipeline/question-answering", {"inputs": {"question": QUERY, "context": TEXT}, "parameters": {}}, "",
          "answers", (), ("align_to_words", "doc_stride", "handle_impossible_answer", "max_answer_len",
                          "max_question_len", "max_seq_len", "top_k"), False, 424),
    _own("embed", "prompts", {"texts": TEXT}, "texts", "prompt", "prompt_name", "normalize", "dimensions", "pooling",
         "precision", *_CUT),
    _own("similarity", "prompts", {"a": [TEXT], "b": DOCUMENTS}, "a"),
    _own("classify", "moods", {"texts": TEXT}, "texts", *_CUT),
    _own("tag", "entities", {"texts": TEXT}, "texts", "aggregation", "stride", "ignore_labels", *_CUT),
    _own("fill_mask", "masks", {"texts": "the [MASK] dog"}, "texts", "targets", *_CUT),
    _own("answer", "answers", {"question": QUERY, "context": TEXT}, "", "max_answer_tokens", "impossible",
         "whole_words", "stride", *_CUT),
    _own("rerank", "cross", {"query": QUERY, "documents": DOCUMENTS}, "documents", "top_k", "raw_scores", *_CUT),
    _own("zero_shot", "nli", {"texts": TEXT, "labels": ["dog", "fox"]}, "texts", "template", "multi_label", *_CUT),
]  # fmt: skip

#: GET routes, and whether they are open to those without a key.
READ = {
    "/v1/models": False,
    "/models": False,
    "/v1/models/minilm": False,
    "/models/minilm/info": False,
    "/tasks": False,
    "/health": True,
    "/livez": True,
    "/readyz": True,
    "/ping": True,
    "/metrics": True,
    "/openapi.json": True,
    "/docs": True,
}


def assert_error(reply: Any, status: int, nested: bool | None, *words: str) -> str:
    """Check a refusal: its status, its form, its request's id, and what its message names; returns the message."""
    assert reply.status == status, (reply.status, reply.body[:500])
    content = reply.json()
    assert content["request_id"] == reply.headers["x-request-id"]
    if nested is None:
        nested = isinstance(content["error"], dict)
    if nested:
        error = content["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["type"], str) and error["type"]
        message = error["message"]
        assert content["message"] == message
        assert set(content) == {"error", "request_id", "message"}
    else:
        message = content["error"]
        assert isinstance(content["error_type"], str) and content["error_type"][0].isupper()
        assert set(content) == {"error", "error_type", "code", "request_id"}
    assert isinstance(message, str) and message
    for word in words:
        assert word in message, message
    return message
