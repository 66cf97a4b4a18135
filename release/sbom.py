"""The SBOM of the executable: that of its Python packages, and the Debian packages that are linked into it.

python sbom.py PACKAGES.cdx.json VERSIONS     VERSIONS has a Debian package and its version on each line
"""

import json
import sys
from pathlib import Path
from urllib.parse import quote

_ORIGIN = "?arch=amd64&distro=debian-12"


def main(packages: Path, versions: Path) -> None:
    """Print it."""
    document = json.loads(packages.read_bytes())
    for line in sorted(versions.read_text().splitlines()):
        name, version = line.split()
        purl = f"pkg:deb/debian/{name}@{quote(version)}{_ORIGIN}"
        document["components"].append(
            {"bom-ref": purl, "name": name, "purl": purl, "type": "library", "version": version}
        )
        document["dependencies"].append({"ref": purl})
    json.dump(document, sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
