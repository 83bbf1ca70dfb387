"""Photographs, labels and the geometry that they share."""
