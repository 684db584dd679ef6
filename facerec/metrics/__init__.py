"""Metrics of face verification, computed exactly and in numpy alone."""
