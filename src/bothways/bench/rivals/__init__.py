"""One file per rival: `load(recipe)` returns a function from texts to embeddings (B, H).

Every rival runs the way its own documentation recommends for speed: texts sorted by length, padded batches, pooling and
normalization inside its graph where it has one.
"""
