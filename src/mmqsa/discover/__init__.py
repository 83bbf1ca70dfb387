"""Masks for anyone's photographs, from a trained run. In Python:

    from mmqsa.discover import load

    finder = load("results/runs/full/seed0")
    found = finder(Image.open("photo.jpg"))   # found.masks, found.boxes, found.scores

On the command line: ``mmqsa discover --run results/runs/full/seed0 photo.jpg folder/ --out out``.
"""

from mmqsa.discover.finder import Finder, Found, load

__all__ = ["Finder", "Found", "load"]
