"""Backbones: aligned pictures in, embeddings out; one file per family, registered in `facerec.registry`."""
