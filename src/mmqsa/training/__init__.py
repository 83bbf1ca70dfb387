"""From a feature cache to a trained run."""
