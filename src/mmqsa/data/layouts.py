"""The layouts that a folder of photographs may have."""

from pathlib import Path

from mmqsa.data.coco import CocoFolder
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.voc import VocFolder
from mmqsa.errors import InputError

LAYOUTS = {"voc": VocFolder, "scenes": VocFolder, "coco": CocoFolder}


def open_folder(root: str | Path) -> PhotoFolder:
    """The folder of photographs at or below ``root``, in whichever layout it has.

    Raises InputError when there is none.
    """
    faults = []
    for layout in (VocFolder, CocoFolder):
        try:
            return layout.find(root)
        except InputError as error:
            faults.append(str(error).removeprefix(f"{root}: "))
    raise InputError(f"{root}: {'; '.join(faults)}")
