"""Metrics to tables and figures. Needs no torch, no data and no GPU."""
