"""The layouts of a folder of photographs."""

from pathlib import Path

from mmqsa.data.coco import Coco20kFolder, CocoFolder
from mmqsa.data.folder import PhotoFolder
from mmqsa.data.voc import Voc2007Folder, VocFolder
from mmqsa.errors import InputError

LAYOUTS: dict[str, type[PhotoFolder]] = {
    "voc": VocFolder,
    "scenes": VocFolder,
    "voc2007": Voc2007Folder,
    "coco": CocoFolder,
    "coco20k": Coco20kFolder,
}  # by dataset.kind


def open_folder(root: str | Path) -> PhotoFolder:
    """The folder of photographs at or below ``root``, in any layout. Raises InputError."""
    faults = []
    for layout in dict.fromkeys(LAYOUTS.values()):
        try:
            return layout.find(root)
        except InputError as error:
            faults.append(str(error).removeprefix(f"{root}: "))
    raise InputError(
        f"{root}: {'; '.join(faults)}; run `mmqsa download`, or name the folder that has it"
    )
