"""An honest target, as a conduit: `honest_target.py RECORD [WORD...]`. It writes down every line that it hears.

It has nothing of what it is asked for, loads whatever it is sent, and shows each image under the ID it was asked by.
`no-zstd` unpacks no zstd layer, as docker before 23.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

PLATFORM = "platform linux/x86_64"


def main(record: str, words: list[str]) -> None:
    hear, out = sys.stdin.buffer, sys.stdout.buffer
    with open(record, "ab", buffering=0) as heard:  # noqa: PTH123 - pathlib would take 20 ms more to load
        images: list[bytes] = []
        expected: list[bytes] = []

        def say(*lines: bytes) -> None:
            out.write(b"".join(line + b"\n" for line in lines))
            out.flush()

        while line := hear.readline():
            heard.write(line)
            word, _, rest = line.rstrip(b"\n").partition(b" ")
            if word == b":":
                hear.read(int(rest.split()[2]))
                say(b"layerferry 1 sh")
            elif word == b"image":
                images.append(rest)
            elif word == b"end":
                layers = b"layers tar gzip" + (b"" if "no-zstd" in words else b" zstd")
                facts = (b"engine docker 28.5.2 overlay2", b"store chain", PLATFORM.encode(), b"accept none", layers)
                say(*facts, *(b"image " + image for image in images), b"end")
            elif word == b"expect":
                expected.append(rest.split()[0])
            elif word == b"load":
                heard.write(b"frames %d\n" % frames(hear))
                say(*(b"loaded " + b" ".join(pair) for pair in zip(expected, images, strict=False)), b"end")
            elif word == b"done":
                say(b"done")


def frames(hear: IO[bytes]) -> int:
    """Read an archive; its bytes."""
    total = 0
    while (size := hear.readline()).strip() not in {b"0", b""}:
        left = int(size)
        while left:
            data = hear.read(min(left, 1 << 16))
            if not data:
                return total
            left -= len(data)
            total += len(data)
    return total


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
