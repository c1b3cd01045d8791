"""Functions over vectors: exact search, near duplicates, groups, hard negatives; in chunks, on all threads."""
