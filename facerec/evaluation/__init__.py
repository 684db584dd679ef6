"""Verification of a model: images to embeddings to results, reports and pictures."""
