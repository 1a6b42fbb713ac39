"""The store: catalogue, indexing, prepared scans, keys, locks and audit."""
