"""The line for authorized_keys that makes a key good for `layerferry receive` and nothing else."""

import base64
import binascii
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from layerferry.errors import UsageError

_KEY = re.compile(r"(?P<type>[a-z0-9@.-]+) (?P<data>[A-Za-z0-9+/]+={0,2})(?: (?P<comment>[^\0-\x1f\x7f]*))?")
_FLAG = "--print-authorized-key"
_ITS_OWN = (_FLAG, "--program")


def authorized_key(public_key: Path, program: str, arguments: Sequence[str]) -> str:
    """The line for `public_key`, with the rules among `arguments`; raises `UsageError`.

    `restrict` turns off every forwarding, the pty and ~/.ssh/rc, and what OpenSSH adds to it one day. A double quote in
    an option is quoted with a backslash (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
    """
    command = shlex.join([program, "receive", *_rules(arguments)])
    if not command.isprintable():
        raise UsageError("a line of authorized_keys holds no control characters")
    quoted = command.replace('"', '\\"')
    return f'restrict,command="{quoted}" {_read(public_key)}'


def _rules(arguments: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in _ITS_OWN:
            skip = True
        elif argument.partition("=")[0] not in _ITS_OWN:
            kept.append(argument)
    return kept


def _read(path: Path) -> str:
    """The one public key in a file, checked: `type base64 comment`."""
    hint = "Give the file that ssh-keygen wrote with the end .pub."
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint=hint) from None
    match = _KEY.fullmatch(text)
    if match is None:
        raise UsageError(f"{path} is not one public key", hint=hint)
    try:
        blob = base64.b64decode(match["data"], validate=True)
    except binascii.Error:
        raise UsageError(f"{path} is not one public key", hint=hint) from None
    kind = match["type"].encode()
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind):  # RFC 4253, 6.6
        raise UsageError(f"{path} is not a {match['type']} key", hint=hint)
    return text
