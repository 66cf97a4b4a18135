r"""The SSH key and the known hosts that come as variables, content or path: mended, and kept private.

The damage that a CI's settings page does to a key is undone: a lost last newline, CRLF, newlines as `\n` or as spaces,
base64 around it all. Any other is an error of one sentence, which never holds the value.
"""

import base64
import binascii
import contextlib
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from layerferry.ci.escape import as_text
from layerferry.ci.ssh_key import keep_in_agent, keep_in_memory
from layerferry.errors import ConnectError, UsageError
from layerferry.temporary import TemporaryFolder

_BEGIN = re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]+)-----")
_HEADER = re.compile(r"^[A-Za-z][A-Za-z0-9-]*:[^\n]*\n", re.MULTILINE)
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_OPENSSH = "OPENSSH PRIVATE KEY"
_PRIVATE = frozenset({_OPENSSH, "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY", "PRIVATE KEY"})
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"
_PUBLIC = re.compile(r"(?:ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)[a-z0-9@.-]+\s+AAAA")
_HOST_LINE = re.compile(r"(?:@(?:cert-authority|revoked)\s+)?\S+\s+[a-z][a-z0-9@.-]+\s+AAAA[A-Za-z0-9+/]+=*(?:\s.*)?")
#: Characters of an armour's lines, as ssh-keygen writes OpenSSH's.
_WIDTH = 70
#: Bytes of a file, and characters of a key: one of 16,384 bits has 13,000. ssh reads known_hosts of any length.
_LARGEST = 1 << 20
_LARGEST_KEY = 64 << 10
#: Bytes of a path (limits.h).
_PATH_MAX = 4096
#: A path that is no damaged secret, and may be shown.
_NAMED = re.compile(r"(?:~|\.{1,2})?(?:/[\w.@-]{1,40}){1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SshIdentity:
    """The files, None where the user gave nothing, and ssh's `-o` options for them.

    Where `agent`, a socket, has the key, `key` is the path to which `.pub` is to be added.
    """

    key: Path | None
    known_hosts: Path | None
    agent: Path | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """The values for `-o`, one each (ssh_config(5)). Without known hosts ssh uses its own."""
        found: list[str] = []
        if self.key:
            found += [f"IdentityFile={_quoted(self.key)}", "IdentitiesOnly=yes"]
        if self.agent:
            found.append(f"IdentityAgent={_quoted(self.agent)}")
        if self.known_hosts:
            found += [f"UserKnownHostsFile={_quoted(self.known_hosts)}", "GlobalKnownHostsFile=/dev/null"]
            found += ["StrictHostKeyChecking=yes"]
        return tuple(found)


@contextlib.contextmanager
def open_identity(
    environ: Mapping[str, str],
    *,
    key: str | None = None,
    known_hosts: str | None = None,
    passphrase: bool = False,
    folder: Path | None = None,
    home: Path | None = None,
    key_setting: str = "LAYERFERRY_SSH_KEY",
    hosts_setting: str = "LAYERFERRY_SSH_KNOWN_HOSTS",
) -> Iterator[SshIdentity]:
    """Keep `key` in memory and write `known_hosts`, content or path each; both are removed when the block ends.

    None means not set; "" is an empty secret, which is a mistake. `folder` is where a private folder is made, the
    system's temporary one by default; `home` stands for `~` in a path. With `passphrase`, ssh will be told that of
    the key. Raises `UsageError`, which names the setting,
    and `ConnectError` where a key cannot be kept in memory.
    """
    text = None if key is None else read_key(key, setting=key_setting, home=home, passphrase=passphrase)
    hosts = None if known_hosts is None else read_known_hosts(known_hosts, setting=hosts_setting, home=home)
    with contextlib.ExitStack() as stack:
        agent = path = hosts_path = None
        if text is not None:
            path = keep_in_memory(stack, text.encode())
            if path is None:
                agent, path = keep_in_agent(stack, text, environ, folder)
        if hosts is not None:
            private = stack.enter_context(TemporaryFolder(folder, error=ConnectError))
            hosts_path = _write(Path(private, "known_hosts"), hosts)
        yield SshIdentity(path, hosts_path, agent)


def read_key(value: str, *, setting: str, home: Path | None = None, passphrase: bool = False) -> str:
    """The private key in `value`, content or path, as ssh reads it; raises `UsageError` if there is none in it."""
    text = _content(value, setting, home, marks=("-----BEGIN ", "PuTTY-User-Key-File", " AAAA"))
    if len(text) > _LARGEST_KEY:
        raise UsageError(f"{setting} holds more than a private key can have", hint="Give the key's file alone.")
    kind, body = _block(text)
    if kind in _PRIVATE:
        if _is_encrypted(kind, body) and not (passphrase and kind == _OPENSSH):
            raise _passphrase(setting)
        return _armour(kind, body, setting)
    if kind == _ENCRYPTED:
        raise _passphrase(setting)
    if text.startswith("PuTTY-User-Key-File"):
        raise UsageError(
            f"{setting} holds a key in PuTTY's format, which ssh does not read",
            hint="Convert it: puttygen key.ppk -O private-openssh -o key",
        )
    if _PUBLIC.match(text) or "PUBLIC KEY-----" in text or "SSH2 PUBLIC KEY" in text:
        raise UsageError(
            f"{setting} holds a public key, and the private one is needed",
            hint="Give the file without .pub; the public key goes into authorized_keys on the target.",
        )
    if any(not kind or begin["kind"] in _PRIVATE for begin in _BEGIN.finditer(text)):
        raise UsageError(
            f"{setting} holds a key that is cut off: its END line is missing",
            hint="Copy the whole file, from -----BEGIN to the end of the -----END line.",
        )
    raise UsageError(
        f"{setting} holds no private key",
        hint="Give the content of a file such as ~/.ssh/id_ed25519, or its path.",
    )


def read_known_hosts(value: str, *, setting: str, home: Path | None = None) -> str:
    """The known_hosts in `value`, content or path; raises `UsageError` if it has no host key in it."""
    text = as_text(_content(value, setting, home, marks=(" ssh-", " ecdsa-", " sk-", "@cert-authority", "@revoked")))
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not all(line.replace("\t", " ").isprintable() for line in lines):
        raise UsageError(f"{setting} has a control character in it", hint="Give lines as ssh-keyscan HOST prints them.")
    entries = [line for line in lines if not line.startswith("#")]
    if not any(_HOST_LINE.fullmatch(entry) for entry in entries):
        raise UsageError(
            f"{setting} holds no line of a known_hosts file",
            hint="Each line reads HOST KEYTYPE KEY, as ssh-keyscan HOST prints it; compare the key with the host's.",
        )
    return "\n".join(lines) + "\n"


def _block(text: str) -> tuple[str, str]:
    """The kind and the body of the first armour of a private key, or else of the first; empty where none has an end.

    `openssl ecparam -genkey` writes the curve's parameters before the key, and a certificate may stand there, too.
    """
    first = "", ""
    for begin in _BEGIN.finditer(text):
        kind, end = begin["kind"], text.find(f"-----END {begin['kind']}-----", begin.end())
        if end >= 0 and kind in {*_PRIVATE, _ENCRYPTED}:
            return kind, text[begin.end() : end]
        if end >= 0 and not first[0]:
            first = kind, text[begin.end() : end]
    return first


def _content(value: str, setting: str, home: Path | None, *, marks: tuple[str, ...]) -> str:
    """The text of `value`, which may be the content itself, in base64, or a path; with plain newlines."""
    if not value.strip():
        raise UsageError(
            f"{setting} is empty",
            hint="A secret that this job may not see is empty too: a fork's, another environment's, a protected one.",
        )
    text = _mended(value)
    if re.fullmatch(r"[*•]{3,}|\[(?:MASKED|REDACTED)\]", text, re.IGNORECASE):
        raise UsageError(
            f"{setting} holds what a log shows in a secret's place, and not the secret",
            hint="Set it from the key's own file; a log, or a settings page, shows none.",
        )
    if len(text) < _PATH_MAX and (mistake := _unexpanded(text, setting)):
        raise mistake
    if any(mark in text for mark in marks):
        return text
    decoded = _from_base64(text)
    if decoded is not None and any(mark in decoded for mark in marks):
        return decoded
    if "\n" in text or len(text) > _PATH_MAX:
        return text
    return _file_content(Path(text), setting, home)


def _file_content(path: Path, setting: str, home: Path | None) -> str:
    """The content of a file. An error shows its name only where that looks like one: it may be a damaged secret."""
    if home and path.parts[:1] == ("~",):
        path = home.joinpath(*path.parts[1:])
    looks = len(path.parts) > 1 and len(str(path)) < 256  # noqa: PLR2004
    name = f" {shown}" if _NAMED.fullmatch(shown := str(path)) else ""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        if not looks:
            raise UsageError(f"{setting} is neither a key, nor known hosts, nor a file") from None
        raise UsageError(
            f"{setting} names a file{name} that cannot be read: {error.strerror}",
            hint="It takes the content of a key or of known hosts, or the path of a file that this job has.",
        ) from None
    if len(data) > _LARGEST:
        raise UsageError(f"{setting} names a file of more than {_LARGEST} bytes")
    text = _mended(data.decode(errors="replace"))
    if not text:
        raise UsageError(f"{setting} names an empty file")
    return _from_base64(text) or text


def _unexpanded(text: str, setting: str) -> UsageError | None:
    """The error for a variable's name that nobody has expanded, where it is all that there is."""
    from layerferry.mistakes import of_variable, unexpanded  # noqa: PLC0415 - where there is one

    return of_variable(text, setting) if unexpanded(text) == text else None


def _mended(text: str) -> str:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if "\n" not in text.strip():
        text = text.replace("\\r", "").replace("\\n", "\n")
    return text.strip().strip("\"'").strip()


def _from_base64(text: str) -> str | None:
    """The text inside base64, wrapped or not; None if it is not base64 of text."""
    with contextlib.suppress(binascii.Error, UnicodeDecodeError, ValueError):
        return _mended(base64.b64decode("".join(text.split()), validate=True).decode())
    return None


def _is_encrypted(kind: str, body: str) -> bool:
    """Whether a passphrase protects the key (openssh-portable, PROTOCOL.key; RFC 1421, 4.6.1.1)."""
    if kind != _OPENSSH:
        return "ENCRYPTED" in body
    with contextlib.suppress(binascii.Error, ValueError, struct.error):
        data = base64.b64decode("".join(body.split()), validate=True)
        if data.startswith(_OPENSSH_MAGIC):
            start = len(_OPENSSH_MAGIC) + 4
            (length,) = struct.unpack_from(">I", data, start - 4)
            return data[start : start + length] != b"none"
    return False


def _armour(kind: str, body: str, setting: str) -> str:
    """The key as ssh reads it: its lines of the right length, and a newline after the last."""
    packed = "".join(_HEADER.sub("", body.lstrip()).split())
    try:
        data = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or (kind == _OPENSSH and not data.startswith(_OPENSSH_MAGIC)):
        raise UsageError(
            f"{setting} holds a key that is damaged between its BEGIN and END lines",
            hint="Copy the file again, or set the variable to its base64: base64 -w0 < key",
        )
    lines = [packed[start : start + _WIDTH] for start in range(0, len(packed), _WIDTH)]
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"]) + "\n"


def _passphrase(setting: str) -> UsageError:
    return UsageError(
        f"{setting} holds a key that a passphrase protects, and nobody is there to type it",
        hint="Make a key for this job alone: ssh-keygen -t ed25519 -N '' -f deploy_key. "
        "Or, for one in OpenSSH's own format, set LAYERFERRY_SSH_PASSPHRASE.",
    )


def _write(path: Path, text: str) -> Path:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text, encoding="utf-8")
    return path


def _quoted(path: Path) -> str:
    """A path as ssh_config(5) takes it: quoted, and `%` not taken for a token."""
    return '"' + str(path).replace("%", "%%") + '"'
