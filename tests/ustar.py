"""Members of a tar, byte by byte: what no library would write (POSIX.1-2017, pax, "ustar Interchange Format")."""


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A ustar header; `size` is the field's 12 bytes."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\x000000000\x000000000\0"
    block[124 : 124 + len(size)] = size
    block[136:157] = b"00000000000\0" + b" " * 8 + kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def member(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    return header(name, octal(len(data)), kind) + data + bytes(-len(data) % 512)
