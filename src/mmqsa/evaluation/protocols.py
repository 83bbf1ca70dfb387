"""What each protocol compares, in words; ``PROTOCOLS`` in metrics.py holds its metrics.

>>> from mmqsa.evaluation.metrics import PROTOCOLS
>>> DESCRIPTIONS["dinosaur"], list(PROTOCOLS["dinosaur"])
('instance label maps, void ignored (DINOSAUR)', ['fg_ari', 'mbo_i', 'miou', 'mbo_c'])
"""

__all__ = ["DESCRIPTIONS"]

DESCRIPTIONS = {
    "paper": "class label maps, void ignored (the paper)",
    "released": "class label maps, void counted, boxes one pixel short (the paper's released code)",
    "dinosaur": "instance label maps, void ignored (DINOSAUR)",
    "spot": "instance label maps, void turned into background, which slots may have (SPOT, MUFASA)",
    "boxes": "annotated boxes (DINOSAUR: any predicted box; LOST, TokenCut: one box an image)",
    "single": "one box an image, read out of the slots in other ways, void ignored",
}
