"""docs/display.svg is made of a real push, by the command that CONTRIBUTING names."""

import re
from xml.etree import ElementTree as ET

import picture
from pages import ROOT
from rig import Rig


def words(svg: str) -> str:
    """What it shows, without its digits, which are another run's."""
    root = ET.fromstring(svg)
    texts = (element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    return re.sub(r"[\d.]+", "0", " ".join("".join(texts).replace("\xa0", " ").split()))


def test_the_picture_shows_what_a_push_shows() -> None:
    with Rig() as rig:
        drawn = picture.picture(rig)
    made, shown = words(drawn), words((ROOT / "docs/display.svg").read_text(encoding="utf-8"))
    for told in ("$ layerferry push app:", "━", "there", "COPY app /app", "new", "verified on prod", "on the wire"):
        assert told in made
        assert told in shown
