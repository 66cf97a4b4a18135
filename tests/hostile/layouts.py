"""OCI layouts on disk: honest ones by their size, and those that lie."""

import random
from pathlib import Path

from packed import Picture, digest_of, layout_files, named_entry, tar_of, write_folder


class Shelf:
    """Honest layouts in a folder, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, size: int, name: str = "docker.io/library/app:1") -> str:
        """`oci:PATH` of an image whose one layer has `size` bytes that do not compress."""
        folder = self._folder / str(size)
        if not folder.exists():
            picture = Picture((tar_of({"a": random.Random(size).randbytes(size)}),), ("",))
            write_folder(folder, layout_files([named_entry(picture, name)], picture.documents))
        return f"oci:{folder}"


__all__ = ["Shelf", "digest_of"]
