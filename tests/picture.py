"""docs/display.svg: what a terminal shows of a push, of a real one.

    python tests/picture.py > docs/display.svg

As root on Debian, since it starts two engines and an sshd (`tests/rig`). The push runs at a terminal of its own, over a
line of 20 Mbit/s; what that shows at half of the transfer and in the end is drawn by rich, on a dark ground of its own,
so that it is read on light pages and on dark ones.
"""

import fcntl
import io
import json
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from rich.console import Console
from rich.text import Text as Shown

from rig import Layer, Noise, Rig, Text, packages
from rig.command import Layerferry
from rig.images import Image

_COLUMNS: Final = 112
_LINES: Final = 30
_STEPS: Final = (
    "FROM debian:12-slim",
    "RUN apt-get install -y python3",
    "RUN pip install -r requirements.txt",
    "COPY app /app",
)
_COMMAND: Final = ("push", "app:2", "prod")
_SEQUENCE: Final = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+")
#: The fonts of others' servers, which a page need not ask for.
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class Screen:
    """The lines of a terminal, as far as rich's display needs one: lines are rewritten as a whole."""

    def __init__(self) -> None:
        self.lines = [""]
        self._at = 0
        self._fresh = False

    def write(self, text: str) -> None:
        for match in _SEQUENCE.finditer(text):
            self._take(match[0], match[1], match[2])

    def _take(self, whole: str, number: str | None, kind: str | None) -> None:
        if whole == "\n":
            self._at += 1
            self.lines += [""] * (self._at + 1 - len(self.lines))
        elif whole == "\r":
            self._fresh = True
        elif kind == "A":
            self._at = max(0, self._at - int(number or 1))
        elif kind == "K":
            self.lines[self._at] = ""
        elif kind in (None, "m"):
            self.lines[self._at] = whole if self._fresh and kind is None else self.lines[self._at] + whole
            self._fresh = self._fresh and kind == "m"

    @property
    def shown(self) -> str:
        return "\n".join(self.lines).rstrip()


def pictures(output: str) -> tuple[str, str]:
    """What the screen shows about half way through the transfer, and in the end."""
    screen, half, best = Screen(), "", 1.0
    for part in re.split(r"(?=\x1b\[2K|\r)", output):
        screen.write(part)
        done, left = screen.shown.count("━"), screen.shown.count("─")
        if done and left and abs(done / (done + left) - 0.5) < best:
            half, best = screen.shown, abs(done / (done + left) - 0.5)
    return half, screen.shown


def drawn(half: str, end: str) -> str:
    """An SVG of both."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Shown(f"$ layerferry {' '.join(_COMMAND)}", style="bold"))
    console.print(Shown.from_ansi(half))
    console.print(Shown("\n  a moment later\n", style="dim"))
    console.print(Shown.from_ansi(end))
    return _FONTS.sub("", console.export_svg(title="layerferry", unique_id="layerferry"))


def image(rig: Rig, layers: list[Layer]) -> Image:
    """An image whose history is a Dockerfile's."""
    made = rig.workshop.image(layers)
    config = json.loads(made.config)
    for entry, step in zip(config["history"], _STEPS, strict=True):
        entry["created_by"] = step
    return replace(made, config=json.dumps(config).encode())


def watched(rig: Rig, environment: dict[str, str]) -> str:
    """What a push writes to a terminal."""
    command = Layerferry(rig)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    settings = environment | {"TERM": "xterm-256color", "COLUMNS": str(_COLUMNS)}
    process = command.start(*_COMMAND, env=settings, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b"".join(_read(ours)).decode()
    if process.wait():
        raise SystemExit(f"the push failed: {text}")
    return text


def _read(fd: int) -> Iterator[bytes]:
    with os.fdopen(fd, "rb", buffering=0) as file:
        while True:
            try:
                data = file.read(1 << 16)
            except OSError:  # the last process has closed it
                return
            if not data:
                return
            yield data


def picture(rig: Rig) -> str:
    """The SVG of a push of which two layers are there, and two are new."""
    source = rig.engine("docker28-containerd", name="builder")
    target = rig.engine("docker28-overlay2", name="prod", rate="20mbit")
    shop = rig.workshop
    there = [shop.layer({"base": Noise(30_000_000)}), shop.layer({"python": Text(60_000_000)})]
    older = [shop.layer({"packages": Text(1_000, "old")}), shop.layer({"app": b"1"})]
    newer = [shop.layer({"packages": Noise(12_000_000, "new")}), shop.layer({"app": b"print('hello')" * 600})]
    target.load(shop.archive({"docker.io/library/app:1": image(rig, [*there, *older])}))
    source.load(shop.archive({"docker.io/library/app:2": image(rig, [*there, *newer])}))
    return drawn(*pictures(watched(rig, Layerferry.source_environment(source))))


def main() -> None:
    packages.install_tools()
    with Rig() as rig:
        svg = picture(rig)
    sys.stdout.write(svg)


if __name__ == "__main__":
    main()
