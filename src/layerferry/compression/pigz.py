"""gzip on several cores, in the way of pigz (https://zlib.net/pigz/): the same tar makes the same bytes on any machine.

Each block is deflated by itself, with the end of the one before as its dictionary, so that next to nothing is lost.
Together they are one member of one gzip file (RFC 1952), without a name and a time.
"""

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from layerferry.compression.stream import in_blocks

_BLOCK = 1 << 20
_WINDOW = 32 << 10
_THREADS = 4
_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
#: An empty block that says that it is the last (RFC 1951, section 3.2.3).
_END = b"\x03\0"


def gzipped(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    """The gzip file of `chunks`, whatever their sizes."""
    yield _HEAD
    crc, size, before = 0, 0, b""
    threads = min(os.cpu_count() or 1, _THREADS)
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for block in in_blocks(chunks, _BLOCK):
            waiting.append(pool.submit(_deflated, block, before, level))
            crc, size, before = zlib.crc32(block, crc), size + len(block), block[-_WINDOW:]
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)
    yield _END + struct.pack("<II", crc, size & 0xFFFFFFFF)


def _deflated(block: bytes, before: bytes, level: int) -> bytes:
    """The deflated form of one block, which ends on a whole byte."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return stream.compress(block) + stream.flush(zlib.Z_SYNC_FLUSH)
