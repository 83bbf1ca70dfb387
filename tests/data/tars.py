"""Archives that tests make."""

import hashlib
import io
import tarfile
from pathlib import Path


def write_tar(path: Path, members: dict[str, bytes]) -> str:
    """Write these files, gzipped if the name says so; the md5 of the archive."""
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()
