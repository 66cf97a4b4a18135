"""A signature of OpenSSH's over a statement (openssh-portable, PROTOCOL.sshsig), as a file and as words of a line.

The file is text: the signature, armoured as `ssh-keygen -Y sign` does it, and the statement on the last line. OpenSSH
by itself can check it: `tail -n 1 FILE | ssh-keygen -Y verify -n image@layerferry -s FILE ...`.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from layerferry.signing.statement import LARGEST, NAMESPACE, Statement, StatementError

#: Bytes of a signature: one of an RSA key of 4,096 bits with a certificate has 3,000.
LARGEST_SIGNATURE = 8 << 10
#: Bytes of the file, armour included.
LARGEST_FILE = LARGEST + 2 * LARGEST_SIGNATURE
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_WIDTH = 70
_MAGIC = b"SSHSIG"
_VERSION = 1
_ARMOUR = re.compile(rf"{_BEGIN}\n(?P<body>[A-Za-z0-9+/=\n]+)\n{_END}\n?")


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement, the bytes that were signed, and the signature, which nobody has checked yet."""

    statement: Statement
    signature: bytes

    def __post_init__(self) -> None:
        """Raises `StatementError` unless it is a signature in our namespace."""
        if (namespace := _namespace(self.signature)) != NAMESPACE.encode():
            shown = namespace[:80].decode("ascii", "replace")
            raise StatementError(f"the signature is in the namespace {shown!r}, not {NAMESPACE!r}")

    @classmethod
    def read_file(cls, data: bytes) -> Self:
        """Read a file; raises `StatementError`."""
        if len(data) > LARGEST_FILE:
            raise StatementError(f"it is larger than {LARGEST_FILE} bytes")
        armoured, end, statement = data.partition(_END.encode() + b"\n")
        return cls(Statement.read(statement), read_armour(armoured + end))

    @classmethod
    def read_words(cls, statement: str, signature: str, parse: Callable[[bytes], Any]) -> Self:
        """Read two words in base64, `parse` being the reader of JSON; raises `StatementError`."""
        data = _decoded(statement, LARGEST, "the statement")
        return cls(Statement.read(data, parse), _decoded(signature, LARGEST_SIGNATURE, "the signature"))

    @property
    def words(self) -> tuple[str, str]:
        """Statement and signature in base64, which has no spaces."""
        return base64.b64encode(self.statement.encode()).decode(), base64.b64encode(self.signature).decode()

    def to_file(self) -> bytes:
        return armour(self.signature) + self.statement.encode()


def armour(signature: bytes) -> bytes:
    """The signature as `ssh-keygen` reads it."""
    packed = base64.b64encode(signature).decode()
    lines = [packed[start : start + _WIDTH] for start in range(0, len(packed), _WIDTH)]
    return "\n".join([_BEGIN, *lines, _END, ""]).encode()


def read_armour(data: bytes) -> bytes:
    """The signature in an armour; raises `StatementError`."""
    match = _ARMOUR.fullmatch(data.decode("latin-1").replace("\r\n", "\n")) if len(data) <= LARGEST_FILE else None
    if match is None:
        raise StatementError("there is no SSH SIGNATURE where it should be")
    return _decoded(match["body"].replace("\n", ""), LARGEST_SIGNATURE, "the signature")


def _decoded(text: str, most: int, what: str) -> bytes:
    if len(text) > 4 * (most // 3 + 1):
        raise StatementError(f"{what} is larger than {most} bytes")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.b64encode(data).decode() != text:
        raise StatementError(f"{what} is not base64")
    return data


def _namespace(signature: bytes) -> bytes:
    """The namespace; raises `StatementError` on what has not the form of a signature (PROTOCOL.sshsig, section 2)."""
    start = len(_MAGIC) + 4
    if not signature.startswith(_MAGIC) or int.from_bytes(signature[len(_MAGIC) : start], "big") != _VERSION:
        raise StatementError("the signature is not one of ssh-keygen's")
    fields: list[bytes] = []
    while start < len(signature) and len(fields) < 5:  # noqa: PLR2004 - key, namespace, reserved, hash, signature
        end = start + 4 + int.from_bytes(signature[start : start + 4], "big")
        if end > len(signature):
            break
        fields.append(signature[start + 4 : end])
        start = end
    if len(fields) != 5 or start != len(signature):  # noqa: PLR2004
        raise StatementError("the signature is broken")
    return fields[1]
