"""The page of a results folder: the answer on one screen, and the masks of every image."""
