"""Shared objects without what only debuggers and linkers read."""

import struct

# The fields of an ELF64 header (elf(5)), all little-endian, by their offsets.
_SECTIONS, _SECTION_COUNTS = 0x28, 0x3C
_MAGIC = b"\x7fELF\x02\x01"


def stripped(data: bytes) -> bytes:
    """The object up to the end of its last segment: sections, of which no loader reads a table, lie behind that."""
    if not data.startswith(_MAGIC):
        raise ValueError("not a little-endian ELF64 file")
    (headers,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    end = 0
    for number in range(count):
        offset, _, _, length = struct.unpack_from("<QQQQ", data, headers + number * size + 8)
        end = max(end, offset + length)
    kept = bytearray(data[:end])
    struct.pack_into("<Q", kept, _SECTIONS, 0)
    struct.pack_into("<HH", kept, _SECTION_COUNTS, 0, 0)
    return bytes(kept)
