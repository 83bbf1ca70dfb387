"""What a run found, held against the ground truth and the controls."""
