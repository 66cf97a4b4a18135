"""The signers that a policy names (allowed_signers(5)): `ssh-keygen -Y` says whose a signature is, and if it is good.

Of a client's words none is on its command line: the signature is in a file of a private folder, the statement on stdin.
What follows `-I` is a principal that ssh-keygen itself has found, in the policy's file or in a certificate of a CA that
the file names; one that is no plain word is refused.
"""

import base64
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from layerferry.receive import command
from layerferry.receive.command import Bounds, Ended, OverrunError
from layerferry.receive.refusal import Refusal, one_line
from layerferry.signing.sshsig import SignedStatement, armour
from layerferry.signing.statement import NAMESPACE

_BOUNDS = Bounds(seconds=20.0, answer=64 << 10)
#: Principals of one key that are tried; a line of allowed_signers, or a certificate, may name many.
_MOST_TRIED = 4
_MOST_PRINCIPALS = 256
_PRINCIPAL = re.compile(r"[!-,.-~][!-~]{0,254}")
#: OpenSSH 8.1 to 9.9 (ssh-keygen.c, sig_verify). The fingerprint is the key's, also where a certificate was used.
_GOOD = re.compile(r'Good "(?P<namespace>[^"]+)" signature for (?P<principal>.+) with \S+ key (?P<key>SHA256:\S{43})')
#: What ssh-keygen says, and what we say for it (seen on 9.2p1). Where it says something else, the last resort is told.
_REASONS = (
    ("key is not yet valid", "the signer's key is not valid yet"),
    ("key has expired", "the signer's key is valid no longer"),
    ("not permitted for use in signature namespace", f"the signer's key is not for the namespace {NAMESPACE}"),
    ("certificate not authorized", "the signer's certificate is not valid here and now"),
    ("no valid principals found", "the signer's certificate is not valid here and now"),
    ("incorrect signature", "the signature is not over this statement"),
)
#: A signature and its signer, by which a ssh-keygen that can find one is known, whatever its version says.
_SAMPLE_SIGNER = (
    b"sample ecdsa-sha2-nistp256 "
    b"AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBIgBM1wGHv+yDdPRcchj94LHGVciNxNnrgbvX6"
    b"zKkTx0pngnbDymuncSBMMbPo6VY6aK5Cbx2szv0LrFYB+RFYk="
    b"\n"
)
_SAMPLE = (
    "U1NIU0lHAAAAAQAAAGgAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAAhuaXN0cDI1NgAAAEEEiAEzXAYe/7IN09FxyG"
    "P3gscZVyI3E2euBu9frMqRPHSmeCdsPKa6dxIEwxs+jpVjporkJvHazO/QusVgH5EViQAAABBpbWFnZUBsYXllcmZl"
    "cnJ5AAAAAAAAAAZzaGE1MTIAAABkAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAABJAAAAIQDyDv2TjBr55G5y7DtzXJ"
    "1F8t0oCHBOXUHUSBvkgUNSVAAAACA6fB7Wwmj8ng05AdSUFQPKsVyBrcRQLpTvsOqVbFgH1Q=="
)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed: the principal that it was checked for, all that the key goes by, and the key's fingerprint."""

    principal: str
    principals: frozenset[str]
    key: str

    def is_apart(self, other: "Signer") -> bool:
        """Whether they may be two: no key and no principal is both's."""
        return self.key != other.key and self.principals.isdisjoint(other.principals)


def count(signers: Iterable[Signer]) -> int:
    """How many there are, at least: those that share a key or a principal, also by way of others, are one."""
    groups: list[list[Signer]] = []
    for signer in signers:
        near = [group for group in groups if not all(map(signer.is_apart, group))]
        groups = [group for group in groups if group not in near]
        groups.append([signer, *(other for group in near for other in group)])
    return len(groups)


class SignerRefusal(Refusal):
    """A signature that is none of an allowed signer's. `said` is what ssh-keygen says of it, for the log."""

    def __init__(self, message: str, said: bytes = b"") -> None:
        super().__init__(message)
        self.said = one_line(said.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class AllowedSigners:
    """A file of allowed signers, those that are revoked, and the ssh-keygen that reads both."""

    program: str
    environment: Mapping[str, str] = field(repr=False)
    allowed: Path
    revoked: Sequence[Path]
    #: Where our private folders are made.
    folder: Path

    def _check_program(self) -> None:
        """Raise `Refusal` unless ssh-keygen finds the signer of a sample: before 8.2 it finds nobody."""
        with self._private() as private:
            allowed = _written(private, "allowed", _SAMPLE_SIGNER)
            done = self._run(
                "find-principals", allowed, _written(private, "signature", armour(base64.b64decode(_SAMPLE)))
            )
        if done.status or done.out.strip() != b"sample":
            raise Refusal("signatures cannot be checked: ssh-keygen is too old here, OpenSSH 8.2 or later is needed")

    def verify(self, signed: SignedStatement) -> Signer:
        """Who of the allowed signers has made a signature; raises `SignerRefusal`."""
        with self._private() as private:
            file = _written(private, "signature", armour(signed.signature))
            found = self._run("find-principals", str(self.allowed), file)
            principals = found.out.decode(errors="replace").splitlines()
            if found.status or not principals:
                self._check_program()
                raise SignerRefusal(_reason(found, "the signature is of nobody who is allowed to sign here"), found.err)
            if len(principals) > _MOST_PRINCIPALS or not all(map(_PRINCIPAL.fullmatch, principals)):
                raise SignerRefusal("the signer goes by a principal that is no word", found.out)
            return self._verified(signed, file, principals)

    def _verified(self, signed: SignedStatement, file: str, principals: Sequence[str]) -> Signer:
        lists: list[list[str]] = [["-r", str(path)] for path in self.revoked] or [[]]
        failed: Ended | None = None
        for principal in principals[:_MOST_TRIED]:
            tries = [self._verify(signed, file, principal, revoked) for revoked in lists]
            keys = {_key(done, principal) for done in tries}
            if len(keys) == 1 and (key := keys.pop()):
                return Signer(principal, frozenset(principals), key)
            failed = failed or next(done for done in tries if not _key(done, principal))
        assert failed is not None
        if self.revoked and _key(self._verify(signed, file, principals[0], []), principals[0]):
            raise SignerRefusal("the signer's key is revoked", failed.err)
        raise SignerRefusal(_reason(failed, "the signature is not valid"), failed.err)

    def _verify(self, signed: SignedStatement, file: str, principal: str, revoked: Sequence[str]) -> Ended:
        words = ["-n", NAMESPACE, "-I", principal, *revoked]
        return self._run("verify", str(self.allowed), file, *words, feed=signed.statement.encode())

    def _private(self) -> "tempfile.TemporaryDirectory[str]":
        try:
            return tempfile.TemporaryDirectory(dir=self.folder, prefix="layerferry-")
        except OSError as error:
            raise Refusal(f"signatures cannot be checked: {error.strerror}") from None

    def _run(self, verb: str, allowed: str, signature: str, *words: str, feed: bytes = b"") -> Ended:
        argv = [self.program, "-Y", verb, "-f", allowed, "-s", signature, *words]
        try:
            return command.run(argv, self.environment, _BOUNDS, feed=[feed] if feed else None, folder="/")
        except OverrunError as error:
            raise Refusal(f"signatures cannot be checked: ssh-keygen {error}") from None
        except OSError as error:
            raise Refusal(f"signatures cannot be checked: ssh-keygen cannot be started: {error.strerror}") from None


def _written(folder: str, name: str, data: bytes) -> str:
    path = Path(folder, name)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise Refusal(f"signatures cannot be checked: {error.strerror}") from None
    return str(path)


def _key(done: Ended, principal: str) -> str:
    """The fingerprint of the key of a good signature; empty where ssh-keygen has not called it good in these words."""
    match = _GOOD.fullmatch(done.out.decode(errors="replace").strip())
    good = not done.status and match and (match["namespace"], match["principal"]) == (NAMESPACE, principal)
    return match["key"] if match and good else ""


def _reason(done: Ended, otherwise: str) -> str:
    said = done.err.decode(errors="replace")
    return next((ours for theirs, ours in _REASONS if theirs in said), otherwise)
