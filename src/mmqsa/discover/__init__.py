"""Masks for anyone's photographs, from a trained run. In Python:

    from mmqsa.discover import load

    segmenter = load("results/runs/full/seed0")
    objects = segmenter(Image.open("photo.jpg"))   # objects.masks, objects.boxes, objects.scores

On the command line: ``mmqsa discover --run results/runs/full/seed0 photo.jpg folder/ --out out``.
"""

from mmqsa.discover.segmenter import Segmentation, Segmenter, load

__all__ = ["Segmentation", "Segmenter", "load"]
