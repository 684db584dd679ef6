"""Photographs to aligned face images."""
