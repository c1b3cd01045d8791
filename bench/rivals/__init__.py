"""One file per rival: `load(folder, threads=..., ...)` returns a function from texts to normalized embeddings.

Every rival runs all-MiniLM-L6-v2 the way its own documentation recommends for speed: texts sorted by length, padded
batches, mean pooling and normalization inside its graph where it has one.
"""
