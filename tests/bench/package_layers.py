"""Layers as `pip install` and `npm install` rebuild them, from lists of versions of which a few differ.

Each is installed twice into a folder of its own, as two builds do: every file has another time, and so has every
`.pyc`. They are kept in build/bench, and need registries that pip and npm reach.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

KEPT = Path(__file__).parents[2] / "build/bench"
_PIP = ("django==5.0.6", "pandas==2.2.2", "numpy==1.26.4", "sqlalchemy==2.0.30", "celery==5.4.0")
_NPM = ("react@18.3.1", "typescript@5.4.5", "aws-sdk@2.1691.0")
#: By layer: who installs, the old versions and the new.
LAYERS = {
    "pip": (
        "pip",
        (*_PIP, "requests==2.32.2", "boto3==1.34.109"),
        (*_PIP, "requests==2.32.3", "boto3==1.34.110"),
    ),
    "lodash": ("npm", (*_NPM, "next@14.2.3", "lodash@4.17.20"), (*_NPM, "next@14.2.3", "lodash@4.17.21")),
    "next": ("npm", (*_NPM, "next@14.2.3", "lodash@4.17.21"), (*_NPM, "next@14.2.4", "lodash@4.17.21")),
}


def install(who: str, packages: tuple[str, ...], folder: Path) -> None:
    """Install packages below a folder, as a build step does."""
    if who == "pip":
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *packages]
    else:
        folder.mkdir(parents=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", *packages]
    subprocess.run(command, check=True)


def tar_of(name: str, number: int) -> Path:
    """The tar of the layer's old (0) or new (1) version; made where it is not there."""
    who, *versions = LAYERS[name]
    path = KEPT / f"{name}-{number}.tar"
    if not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "packages")
            install(who, versions[number], folder)
            with tarfile.open(path.with_suffix(".part"), "w", format=tarfile.GNU_FORMAT) as tar:
                tar.add(folder, "opt/packages")
        path.with_suffix(".part").rename(path)
    return path
