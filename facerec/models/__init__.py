"""Backbones, margin heads, and what builds, loads and measures them."""
