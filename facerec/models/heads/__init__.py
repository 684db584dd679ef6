"""Margin heads: embeddings and labels in, scaled logits out; one file each, registered in `facerec.registry`."""
