"""Checking packs and pair sets from the first byte to the last."""
