"""What is said of a release, in the one place where it is said, and where it is written from there."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import install_lines
from layerferry import __version__

ROOT = Path(__file__).parents[2]
PROJECT: Any = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_line_that_installs_says_what_pyproject_says() -> None:
    """Run `python release/install_lines.py` where this fails."""
    assert {path for path, text in install_lines.written().items() if path.read_text(encoding="utf-8") != text} == set()


@pytest.mark.parametrize("on_pypi", [False, True])
def test_the_day_it_is_on_pypi_one_line_changes(monkeypatch: pytest.MonkeyPatch, *, on_pypi: bool) -> None:
    address = "https://git.example.com/ours/layerferry"
    monkeypatch.setattr(install_lines, "facts", lambda: ("1.2.3", address, on_pypi))
    texts = {str(path.relative_to(ROOT)): text for path, text in install_lines.written().items()}
    wanted = "layerferry==1.2.3" if on_pypi else f"git+{address}@v1.2.3"
    assert f"pip install {wanted}\n" in texts["ci-examples/circleci.yml"]
    assert ("    pipx install layerferry " if on_pypi else f"    pipx install git+{address}") in texts["README.md"]


def test_no_release_of_pypi_is_installed_before_there_is_one() -> None:
    on_pypi = PROJECT["tool"]["layerferry-release"]["on-pypi"]
    asked = [path for path, text in install_lines.written().items() if "layerferry==" in text]
    assert bool([path for path in asked if path.name != "action.yml"]) is on_pypi


def test_a_version_is_said_alike() -> None:
    assert PROJECT["project"]["version"] == __version__
    assert re.search(rf"(?m)^## \[{re.escape(__version__)}\] - ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))


def test_every_address_is_the_repositorys() -> None:
    urls = PROJECT["project"]["urls"]
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
    (link,) = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    assert link["replacement"].startswith(f"]({urls['Repository']}/blob/")
    assert re.findall(link["pattern"], README)


@pytest.mark.parametrize(
    ("version", "address", "tag", "why"),
    [
        ("0.2.0", "https://github.com/OWNER/layerferry", "v0.2.0", "no address yet"),
        ("0.2.0", "https://git.example.com/ours/layerferry", "v0.2.1", "the tag is v0.2.1"),
        ("99.0.0", "https://git.example.com/ours/layerferry", "v99.0.0", "no date"),
    ],
)
def test_what_is_no_release_is_not_published(
    monkeypatch: pytest.MonkeyPatch, version: str, address: str, tag: str, why: str
) -> None:
    monkeypatch.setattr(install_lines, "facts", lambda: (version, address, False))
    assert why in install_lines.unpublishable(tag)


def test_a_release_is() -> None:
    version, address, _ = install_lines.facts()
    unfit = install_lines.unpublishable(f"v{version}")
    dated = re.search(rf"(?m)^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text())
    assert (unfit == "") is (bool(dated) and "OWNER" not in address)
