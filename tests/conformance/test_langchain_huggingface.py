"""LangChain's embeddings by a Hugging Face endpoint, in an environment of their own: they can't stand beside ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from serving import serve

PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"

TEXTS = ["The fox jumps over the lazy dog.", "Cats sleep a lot.", "naïve 🎉"]

PROGRAM = """
import asyncio, json, sys
from langchain_huggingface import HuggingFaceEndpointEmbeddings

url, texts = sys.argv[1], json.loads(sys.argv[2])
client = HuggingFaceEndpointEmbeddings(model=url)
found = [client.embed_documents(texts), client.embed_query(texts[0])]
found += [asyncio.run(client.aembed_documents(texts)), asyncio.run(client.aembed_query(texts[0]))]
print(json.dumps(found))
"""


@pytest.mark.parametrize("path", ["", "/models/minilm", "/embed"])
def test_vectors_are_those_of_sentence_transformers(minilm: Path, path: str) -> None:
    if not PYTHON.exists():
        pytest.skip("langchain-huggingface is not installed: run `make .venv-clients/ready`")
    from sentence_transformers import SentenceTransformer

    wanted = SentenceTransformer(str(minilm)).encode(TEXTS)
    with serve(minilm, served_model_name="minilm") as server:
        command = [str(PYTHON), "-W", "error::UserWarning", "-c", PROGRAM, server.url + path, json.dumps(TEXTS)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    documents, query, documents_later, query_later = json.loads(run.stdout)
    for found in (documents, documents_later):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    for found in (query, query_later):
        np.testing.assert_allclose(found, wanted[0], atol=1e-4)
