"""Where layerferry is to be had, as pyproject.toml says: the lines of README and the examples, and of the code.

python release/install_lines.py            writes them
python release/install_lines.py --publish  says why it cannot be published as v$1, if it cannot; needs a tag
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: What the examples install: a release of PyPI, or a tag.
SPECIFICATION = re.compile(r"(pipx? (?:install|run --spec) )((?:layerferry==|git\+https://)\S+)")
PLACEHOLDER = "OWNER"
_README = re.compile(r"(<!-- install: [^\n]*-->\n\n).*?(\n\n<!-- end of install -->)", re.DOTALL)
_PYPI_NOTE = re.compile(r"(<!-- pypi: [^\n]*-->\n\n).*?(\n\n<!-- end of pypi -->)", re.DOTALL)
#: Where the code says it: docker shows it of a plugin.
_CODE = ROOT / "src/layerferry/docker_plugin.py"
_ADDRESS = re.compile(r'(?m)^(ADDRESS: Final = ").*(")$')
_NOT_YET = """\
layerferry is not on PyPI yet: the examples install a tag from its repository. Where they say `OWNER`, write whose you
trust, or use the [executable](../README.md#install), which needs no Python. The action needs no change."""


def facts() -> tuple[str, str, bool]:
    """The version, the repository's address, and whether PyPI has the version."""
    document: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = document["project"]
    return project["version"], project["urls"]["Repository"], document["tool"]["layerferry-release"]["on-pypi"]


def specification() -> str:
    """What pip is asked for."""
    version, address, on_pypi = facts()
    return f"layerferry=={version}" if on_pypi else f"git+{address}@v{version}"


def written() -> dict[Path, str]:
    """Each file that has such lines, as it should be."""
    examples = [
        path for path in (ROOT / "ci-examples").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    result = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", _CODE, *examples]}
    return {path: _rewritten(text) for path, text in result.items()}


def _rewritten(text: str) -> str:
    _, address, on_pypi = facts()
    text = _ADDRESS.sub(lambda match: match[1] + address + match[2], text)
    text = SPECIFICATION.sub(lambda match: match[1] + specification(), text)
    first = "    pipx install layerferry" if on_pypi else f"    pipx install git+{address}"
    lines = f"{first:<60}# Python 3.11 or later\n{'    pipx install .':<60}# the same, in a clone"
    text = _README.sub(lambda match: match[1] + lines + match[2], text)
    note = "The examples install a release from PyPI." if on_pypi else _NOT_YET
    return _PYPI_NOTE.sub(lambda match: match[1] + note + match[2], text)


def unpublishable(tag: str) -> str:
    """Why `tag` cannot be published, in one sentence; empty where it can."""
    version, address, _ = facts()
    heading = rf"(?m)^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if tag != f"v{version}":
        return f"the tag is {tag}, and pyproject.toml says {version}"
    if PLACEHOLDER in address:
        return f"pyproject.toml has no address yet: {address}"
    if not re.search(heading, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        return f"CHANGELOG.md has no date for {version}"
    return ""


def main(arguments: list[str]) -> None:
    """Write the lines, or judge a tag."""
    if arguments[:1] == ["--publish"]:
        sys.exit(unpublishable(arguments[1]) or 0)
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
