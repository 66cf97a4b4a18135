"""The mended key is one that OpenSSH itself reads, for every kind of key that ssh-keygen makes."""

import subprocess
from pathlib import Path

import pytest

from layerferry.ci.ssh_identity import open_identity, read_key
from layerferry.errors import UsageError

KINDS = {
    "ed25519": ["-t", "ed25519"],
    "ecdsa": ["-t", "ecdsa"],
    "rsa": ["-t", "rsa", "-b", "2048"],
    "rsa PEM": ["-t", "rsa", "-b", "2048", "-m", "PEM"],
    "ecdsa PEM": ["-t", "ecdsa", "-m", "PEM"],
    "rsa PKCS8": ["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
}


def make(folder: Path, kind: str, passphrase: str = "") -> Path:
    path = folder / "key"
    command = ["ssh-keygen", "-q", "-N", passphrase, "-C", "a comment", "-f", str(path), *KINDS[kind]]
    subprocess.run(command, check=True, capture_output=True)
    return path


def public(path: Path) -> list[str]:
    command = ["ssh-keygen", "-y", "-P", "", "-f", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.split()[:2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("newline", [" ", "\\n", "\r\n"], ids=["spaces", "literal", "CRLF"])
def test_openssh_reads_what_was_mended(kind: str, newline: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind)
    spoilt = path.read_text(encoding="utf-8").strip().replace("\n", newline)
    with open_identity(key=spoilt) as identity:
        assert identity.key is not None
        assert public(identity.key) == public(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_passphrase_is_recognised_without_running_anything(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path, kind, "correct horse")
    with pytest.raises(UsageError, match="passphrase"):
        read_key(path.read_text(encoding="utf-8"), setting="LAYERFERRY_SSH_KEY")


def test_ssh_understands_the_options(tmp_path: Path) -> None:
    odd = tmp_path / "a 100%h"
    odd.mkdir()
    key = make(tmp_path, "ed25519").read_text(encoding="utf-8")
    host = "web1 " + (tmp_path / "key.pub").read_text(encoding="utf-8")
    with open_identity(key=key, known_hosts=host, folder=odd) as identity:
        options = [part for option in identity.options for part in ("-o", option)]
        done = subprocess.run(["ssh", "-F", "none", "-G", *options, "web1"], check=True, capture_output=True, text=True)
        shown = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert shown["identityfile"] == str(identity.key).replace("%", "%%")
        assert shown["userknownhostsfile"].strip('"') == str(identity.known_hosts)
        assert shown["identitiesonly"] == "yes"
        assert shown["stricthostkeychecking"] in {"true", "yes"}
