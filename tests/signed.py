"""Keys, allowed signers and signatures, as OpenSSH makes them; and statements, honest and bent."""

import base64
import functools
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuzz.shipment import NAME, Image, digest

NAMESPACE = "image@layerferry"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def keygen(*words: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> bytes:
    command = ["ssh-keygen", *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, check=True, timeout=60, env=environment or ENVIRONMENT
    ).stdout


class Keys:
    """A folder of keys, each made when it is first asked for by its name, `KIND` or `KIND-ANYTHING`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    @functools.cached_property
    def ca(self) -> str:
        return self.public("ed25519-ca")

    def private(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            kind = name.partition("-")[0]
            bits = ["-b", "2048"] if kind == "rsa" else []
            keygen("-q", "-t", kind, *bits, "-N", "", "-C", name, "-f", str(path))
        return path

    def public(self, name: str) -> str:
        """The key as allowed_signers has it: type and base64."""
        self.private(name)
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def certificate(self, name: str, principals: str, *options: str, ca: str = "ed25519-ca") -> Path:
        """A certificate of our CA for a key, which stands beside it."""
        self.private(name)
        public = str(self.folder / f"{name}.pub")
        keygen("-q", "-s", str(self.private(ca)), "-I", f"run of {name}", "-n", principals, *options, public)
        return self.folder / f"{name}-cert.pub"

    def sign(self, key: str | Path, data: bytes, namespace: str = NAMESPACE) -> bytes:
        """The signature of a key over `data`, in its binary form."""
        path = self.private(key) if isinstance(key, str) else key
        armour = keygen("-q", "-Y", "sign", "-f", str(path), "-n", namespace, stdin=data)
        return unarmoured(armour)


def unarmoured(armour: bytes) -> bytes:
    return base64.b64decode(b"".join(line for line in armour.splitlines() if not line.startswith(b"-----")))


def document(image: Image, *names: str, **changes: Any) -> dict[str, Any]:
    """What an honest statement on an image says, with changes."""
    said: dict[str, Any] = {
        "config": digest(image.config),
        "created": int(time.time()) - 60,
        "diff_ids": image.diff_ids,
        "expires": 0,
        "names": sorted(names or (NAME,)),
        "platform": f"{image.os}/{image.architecture}",
        "version": 1,
    }
    return said | changes


def dumped(said: Any) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def line(statement: bytes, signature: bytes) -> str:
    """The client's line."""
    return f"signature {base64.b64encode(statement).decode()} {base64.b64encode(signature).decode()}"


def allowed(*lines: str) -> str:
    return "".join(f"{text}\n" for text in lines)


def words(signers: Path, *more: str, names: Sequence[str] = ("app:*",)) -> tuple[str, ...]:
    """The options of a receiver."""
    return (*(word for name in names for word in ("--allow", name)), "--signers", str(signers), *more)
