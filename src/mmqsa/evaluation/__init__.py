"""Runs, baselines and controls compared with the ground truth."""
