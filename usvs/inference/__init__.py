"""Predictors, embeddings, search and export."""
