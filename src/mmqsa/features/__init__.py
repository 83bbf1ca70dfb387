"""Patch features of a frozen backbone, and the file that caches them."""
