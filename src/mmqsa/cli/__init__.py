"""``mmqsa STAGE …``: each stage of the pipeline from files to files.

Thin on purpose: parse, call, say in one line what was done. A stage's modules are imported when
it is called, so that ``--help`` answers at once and tables need no torch.
"""

from mmqsa.cli.entry import main

__all__ = ["main"]
