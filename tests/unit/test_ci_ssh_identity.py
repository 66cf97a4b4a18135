"""Keys as CIs' settings pages leave them. The keys are none: an OpenSSH envelope around nothing."""

import base64
import os
import stat
import struct
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from layerferry.ci.ssh_identity import open_identity, read_key, read_known_hosts
from layerferry.errors import UsageError

SETTING = "LAYERFERRY_SSH_KEY"
HOSTS = "web1.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5vdEFLZXlCdXRUaGVTaGFwZU9mT25lISEhISEh"
HASHED = "|1|q83vEjRWeJCrze8SNFZ4kKvN7xI=|q83vEjRWeJCrze8SNFZ4kKvN7xI= ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlz="


def envelope(cipher: bytes = b"none", filler: int = 300) -> str:
    data = b"openssh-key-v1\0" + struct.pack(">I", len(cipher)) + cipher + bytes(range(256)) * 2
    body = base64.b64encode(data[:filler]).decode()
    lines = [body[start : start + 70] for start in range(0, len(body), 70)]
    return "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----"]) + "\n"


KEY = envelope()
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + base64.b64encode(bytes(90)).decode() + "\n-----END RSA PRIVATE KEY-----\n"
#: As `openssl ecparam -name prime256v1 -genkey` writes it, and a key behind its certificate.
PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
EC = PEM.replace("RSA", "EC")
MISHAPS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "last newline lost": lambda text: text.rstrip("\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "literal \\n": lambda text: text.replace("\n", "\\n"),
    "literal \\r\\n": lambda text: text.replace("\n", "\\r\\n"),
    "spaces for newlines": lambda text: text.replace("\n", " "),
    "indented": lambda text: "".join(f"    {line}\n" for line in text.splitlines()),
    "quoted": lambda text: f'"{text}"',
    "blank lines around": lambda text: f"\n\n{text}\n\n",
    "byte order mark": lambda text: f"\ufeff{text}",
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(text.encode()).decode(),
    "base64 of CRLF": lambda text: base64.b64encode(text.replace("\n", "\r\n").encode()).decode(),
}


class TestKey:
    @pytest.mark.parametrize("mishap", MISHAPS)
    @pytest.mark.parametrize("key", [KEY, PEM], ids=["OpenSSH", "PEM"])
    def test_a_mishap_is_undone(self, key: str, mishap: str) -> None:
        mended = read_key(MISHAPS[mishap](key), setting=SETTING)
        assert "".join(mended.split()) == "".join(key.split())
        assert mended.endswith("-----\n")
        assert "\r" not in mended
        assert all(len(line) <= 70 for line in mended.splitlines())

    @pytest.mark.parametrize("mishap", MISHAPS)
    @pytest.mark.parametrize("before", [PARAMETERS, CERTIFICATE, PARAMETERS + CERTIFICATE])
    def test_what_stands_before_a_key_is_left_out(self, before: str, mishap: str) -> None:
        for key in (KEY, EC):
            mended = read_key(MISHAPS[mishap](before + key + CERTIFICATE), setting=SETTING)
            assert "".join(mended.split()) == "".join(key.split())

    @pytest.mark.parametrize("mishap", MISHAPS)
    def test_a_path_serves_as_well(self, mishap: str, tmp_path: Path) -> None:
        path = tmp_path / "key"
        path.write_bytes(MISHAPS[mishap](KEY).encode())
        assert read_key(str(path), setting=SETTING) == KEY

    def test_a_path_may_begin_at_home(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(KEY, encoding="utf-8")
        assert read_key("~/key", setting=SETTING, home=tmp_path) == KEY

    @pytest.mark.parametrize(
        ("value", "sentence"),
        [
            ("", "is empty"),
            (" \n\t", "is empty"),
            (envelope(b"aes256-ctr"), "passphrase"),
            (MISHAPS["base64"](envelope(b"aes256-gcm@openssh.com")), "passphrase"),
            (MISHAPS["spaces for newlines"](envelope(b"aes256-ctr")), "passphrase"),
            (
                PEM.replace("KEY-----\nAAAA", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\nAAAA"),
                "passphrase",
            ),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----", "passphrase"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@laptop", "public key"),
            ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTI me@laptop", "public key"),
            ("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1 me@laptop", "public key"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "public key"),
            ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "public key"),
            ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "PuTTY"),
            (KEY[:200], "cut off"),
            (KEY.replace(KEY.splitlines()[2], "not*base64"), "damaged"),
            (KEY.replace("OPENSSH", "DSA").replace("DSA PRIVATE KEY-----\nb3", "DSA PRIVATE KEY-----\n*3"), "damaged"),
            (PEM.replace("RSA", "OPENSSH"), "damaged"),
            (CERTIFICATE, "no private key"),
            (PARAMETERS, "no private key"),
            (PARAMETERS + EC[:100], "cut off"),
            (PARAMETERS + EC.replace("\nAAAA", "\n*AAA"), "damaged"),
            (CERTIFICATE + PEM.replace("RSA", "ENCRYPTED"), "passphrase"),
            ("correct horse battery staple", "neither"),
            ("two\nlines", "no private key"),
        ],
    )
    def test_what_cannot_be_mended_is_said_in_one_sentence(self, value: str, sentence: str) -> None:
        with pytest.raises(UsageError) as caught:
            read_key(value, setting=SETTING)
        error = caught.value
        assert error.message.startswith(SETTING)
        assert sentence in error.message
        assert "\n" not in error.message
        shown = error.message + error.hint + "".join(traceback.format_exception(error))
        for word in value.split():
            assert len(word) < 12 or "-----" in word or word not in shown, word

    @pytest.mark.parametrize("make", ["missing", "folder", "empty"])
    def test_a_path_that_leads_nowhere_says_so(self, make: str, tmp_path: Path) -> None:
        path = tmp_path / "key"
        if make == "folder":
            path.mkdir()
        elif make == "empty":
            path.touch()
        with pytest.raises(UsageError, match="names a"):
            read_key(str(path), setting=SETTING)


class TestKnownHosts:
    # With spaces for newlines nobody can know where a line ends.
    @pytest.mark.parametrize("mishap", sorted(MISHAPS.keys() - {"spaces for newlines"}))
    def test_a_mishap_is_undone(self, mishap: str) -> None:
        text = f"# web\n{HOSTS}\n{HASHED}\n@cert-authority *.example.com {HOSTS.split(maxsplit=1)[1]}\n"
        assert read_known_hosts(MISHAPS[mishap](text), setting="X") == text

    def test_a_path_serves_as_well(self, tmp_path: Path) -> None:
        (tmp_path / "known_hosts").write_text(HOSTS, encoding="utf-8")
        assert read_known_hosts(str(tmp_path / "known_hosts"), setting="X") == HOSTS + "\n"

    @pytest.mark.parametrize(
        "value", ["", "web1.example.com\n", "SHA256:abcdef ssh-\n", "# only a comment ssh-\n", KEY]
    )
    def test_without_a_host_key_it_is_refused(self, value: str) -> None:
        with pytest.raises(UsageError, match=r"^LAYERFERRY_SSH_KNOWN_HOSTS "):
            read_known_hosts(value, setting="LAYERFERRY_SSH_KNOWN_HOSTS")


class TestFiles:
    def test_they_are_private_and_gone_afterwards(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            with open_identity({}, key=KEY, known_hosts=HOSTS, folder=tmp_path) as identity:
                (folder,) = tmp_path.iterdir()
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700
                assert identity.key is not None
                assert identity.key.read_text(encoding="utf-8") == KEY
                assert {stat.S_IMODE(path.stat().st_mode) for path in (*folder.iterdir(), identity.key)} == {0o600}
                assert identity.options == (
                    f'IdentityFile="{identity.key}"',
                    "IdentitiesOnly=yes",
                    f'UserKnownHostsFile="{folder}/known_hosts"',
                    "GlobalKnownHostsFile=/dev/null",
                    "StrictHostKeyChecking=yes",
                )
        finally:
            os.umask(before)
        assert not list(tmp_path.iterdir())
        assert not identity.key.exists()

    def test_the_key_is_on_no_disk(self, tmp_path: Path) -> None:
        with open_identity({}, key=KEY, known_hosts=HOSTS, folder=tmp_path):
            assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["known_hosts"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
    def test_they_are_gone_after_a_failure_too(self, error: type[BaseException], tmp_path: Path) -> None:
        with pytest.raises(error), open_identity({}, key=KEY, known_hosts=HOSTS, folder=tmp_path):
            raise error
        assert not list(tmp_path.iterdir())

    def test_nothing_given_means_ssh_keeps_to_its_own(self, tmp_path: Path) -> None:
        with open_identity({}, folder=tmp_path) as identity:
            assert identity.options == ()

    def test_a_mistake_leaves_nothing_behind(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError), open_identity({}, key=KEY, known_hosts="", folder=tmp_path):
            pass
        assert not list(tmp_path.iterdir())

    def test_a_folder_with_strange_characters_is_quoted(self, tmp_path: Path) -> None:
        odd = tmp_path / "a 100%h"
        odd.mkdir()
        with open_identity({}, known_hosts=HOSTS, folder=odd) as identity:
            assert f'UserKnownHostsFile="{tmp_path}/a 100%%h/' in identity.options[0]
