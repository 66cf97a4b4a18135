"""`sign` and `verify`: a signature on an image as a file, and who has made it."""

import contextlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from layerferry.context import Context
from layerferry.errors import OutputError, SourceError, UsageError, VerificationError
from layerferry.processes import child_environment
from layerferry.push.request import Wanted, nameless
from layerferry.receive.allowed_signers import AllowedSigners
from layerferry.receive.engine import find_program
from layerferry.receive.refusal import Refusal
from layerferry.settings import environment
from layerferry.settings.values import Settings
from layerferry.signing.offer import read_signature, state
from layerferry.signing.signer import open_key
from layerferry.signing.sshsig import SignedStatement
from layerferry.signing.statement import Statement, duration
from layerferry.sources import SourceImage


def sign(chosen: Settings, reference: str, *, key: str, names: Sequence[str], expires: str, output: str) -> str:
    """The signature of a key on an image, in a file; as text where `output` is `-`."""
    around, wanted, lasts = Context.look(chosen, environment()), Wanted.of(reference, names), _read_duration(expires)
    with contextlib.closing(around.source(lambda _: None)) as source:
        image = source.open(wanted.reference, around.settings.parsed_platform)
        statement = state(image.image, _config_of(image), wanted.names or image.names or _no_names(wanted), lasts)
    with open_key(key, around.environ, setting="the key") as opened:
        signed = opened.sign(statement).to_file()
    if output == "-":
        return signed.decode()
    try:
        Path(output).write_bytes(signed)
    except OSError as error:
        raise OutputError(f"{output} could not be written: {error.strerror}") from None
    return ""


def _read_duration(text: str) -> int:
    """Seconds; 0 for nothing said. Raises `UsageError`."""
    try:
        return duration(text) if text else 0
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from None


def _config_of(image: SourceImage) -> str:
    """The digest of an image's config; raises `SourceError` where nothing tells it."""
    if config := image.fetch_config_id():
        return config
    raise SourceError(
        f"{image.image.reference} cannot be signed: the daemon does not tell the digest of its config",
        hint="Sign it where it was built: out of a layout, an archive or a registry.",
    )


def _no_names(wanted: Wanted) -> tuple[str, ...]:
    raise nameless(wanted.reference)


def verify(
    chosen: Settings, word: str, *, signers: str, signatures: Sequence[str], revoked: Sequence[str]
) -> list[str]:
    """Lines on who has signed what, when; raises `VerificationError` on the first signature that is not good.

    `word` is a signature's file, or an image, which those of `signatures` must be about.
    """
    around, allowed = Context.look(chosen, environment()), _allowed(environment(), signers, revoked)
    if Path(word).is_file() and not signatures:
        return _told(word, read_signature(Path(word)), allowed)
    if not signatures:
        raise UsageError(f"where is the signature on {word}?", hint="layerferry verify IMAGE --signature FILE ...")
    with contextlib.closing(around.source(lambda _: None)) as source:
        image = source.open(Wanted.of(word, ("any",)).reference, around.settings.parsed_platform)
        config = _config_of(image)
    lines = []
    for file in signatures:
        signed = read_signature(Path(file))
        if not signed.statement.is_of(config, image.image.diff_ids, image.image.platform):
            raise VerificationError(f"{file} is not on {word}, whose config is {config}")
        lines += _told(file, signed, allowed)
    return lines


def _allowed(environ: Mapping[str, str], signers: str, revoked: Sequence[str]) -> AllowedSigners:
    """The same check as a receiver's."""
    environment = {"PATH": os.defpath, **child_environment(environ), "LC_ALL": "C"}
    program = find_program("ssh-keygen", environment)
    if not program:
        raise UsageError("nothing can be verified: there is no ssh-keygen", hint="Install OpenSSH's client.")
    lists = [Path(file).absolute() for file in revoked]
    return AllowedSigners(program, environment, Path(signers).absolute(), lists, Path(tempfile.gettempdir()))


def _told(file: str, signed: SignedStatement, allowed: AllowedSigners) -> list[str]:
    statement = signed.statement
    try:
        signer = allowed.verify(signed)
    except Refusal as refusal:
        raise VerificationError(f"{file}: {refusal.message}") from None
    if statement.expires and statement.expires <= time.time():
        raise VerificationError(f"{file}: the statement has expired on {_date(statement.expires)}")
    return [
        f"{file}: signed by {signer.principal} ({signer.key})",
        f"  on {_date(statement.created)}, {_end(statement)}",
        f"  image {statement.config}, {statement.platform}",
        *(f"  as {name}" for name in statement.names),
    ]


def _end(statement: Statement) -> str:
    return f"until {_date(statement.expires)}" if statement.expires else "without an end"


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
