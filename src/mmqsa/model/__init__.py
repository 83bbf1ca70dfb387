"""Masked multi-query slot attention. Knows tensors, no files."""
