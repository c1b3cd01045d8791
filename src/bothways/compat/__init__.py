"""Names of sentence-transformers and transformers over `Encoder`, so that existing code changes one import.

`SentenceTransformer`, `CrossEncoder` and `util` are called as in sentence-transformers 6.2, `pipeline` as in
transformers 5.23. torch is imported only for callers who ask for tensors. docs/compat.md lists what is there and every
difference.
"""

from bothways.compat import util
from bothways.compat.cross_encoder import CrossEncoder
from bothways.compat.pipelines import PipelineException, pipeline
from bothways.compat.sentence_transformer import SentenceTransformer
from bothways.compat.util import SimilarityFunction

__all__ = ["CrossEncoder", "PipelineException", "SentenceTransformer", "SimilarityFunction", "pipeline", "util"]
