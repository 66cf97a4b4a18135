"""`sign`, `verify` and a signed push, with OpenSSH's own programs, into a receiver in front of a fake engine."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import fork_server
import signed
from fuzz.bench import BEFORE, CLASSIC, CONTAINERD, Bench
from layerferry.signing.sshsig import SignedStatement
from packed import Picture, layout_files, named_entry, write_folder
from signed import Keys

PICTURE = Picture.of("app", "", "gzip")
NAME = "docker.io/library/app:1"
KINDS = ("ed25519", "ecdsa", "rsa")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@dataclass
class Desk:
    """Somebody with an image in a layout, and keys; and a host whose receiver wants signed images."""

    folder: Path
    keys: Keys
    bench: Bench

    def __post_init__(self) -> None:
        files = layout_files([named_entry(PICTURE, NAME)], PICTURE.documents)
        self.image = f"oci:{write_folder(self.folder / 'layout', files)}:1"
        self.signers = self.folder / "allowed_signers"
        self.signers.write_text(f"ann@example.com {self.keys.public('ed25519')}\n")
        (self.folder / "state").mkdir()

    def __call__(self, *words: str, code: int = 0, **variables: str) -> "subprocess.CompletedProcess[bytes]":
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LAYERFERRY_RETRIES": "0", **variables}
        done = fork_server.run(fork_server.command(*words), data=b"", env=environment, timeout=60)
        assert done.returncode == code, done.stderr.decode()
        return done

    def sign(self, key: Path, *more: str) -> Path:
        file = self.folder / f"{key.name}.sig"
        self("sign", self.image, "--key", str(key), "--output", str(file), *more)
        return file

    def verify(self, *words: str, code: int = 0) -> "subprocess.CompletedProcess[bytes]":
        return self("verify", *words, "--signers", str(self.signers), code=code)

    def receiver(self, *policy: str) -> list[str]:
        """The host, as a command."""
        options = signed.words(self.signers, "--state", str(self.folder / "state"), *policy)
        fixed = ("--log", str(self.bench.log), "--spool", str(self.bench.spool))
        given = [f"{name}={value}" for name, value in self.bench.environment.items()]
        return ["env", "-i", *given, sys.executable, "-m", "layerferry", "receive", *options, *fixed]

    def push(self, *words: str, policy: tuple[str, ...] = (), code: int = 0, **variables: str) -> str:
        """Push to the host, by a command as the conduit; stderr."""
        command = ("push", self.image, *words, "--", *self.receiver(*policy))
        return self(*command, code=code, **variables).stderr.decode()


@pytest.fixture
def desk(tmp_path: Path, keys: Keys) -> Desk:
    return Desk(tmp_path, keys, Bench(tmp_path))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """An agent's socket."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield str(socket)
        process.terminate()


def add(socket: str, *files: Path) -> None:
    for file in files:
        subprocess.run(["ssh-add", "-q", str(file)], env={"SSH_AUTH_SOCK": socket, "PATH": os.defpath}, check=True)


def test_the_statement_says_what_the_image_is(desk: Desk) -> None:
    file = desk.sign(desk.keys.private("ed25519"), "--name", "app:2", "--name", "ghcr.io/a/b", "--expires", "7d")
    said = json.loads(file.read_text().splitlines()[-1])
    assert said == {
        "config": PICTURE.id,
        "created": said["created"],
        "diff_ids": list(PICTURE.diff_ids),
        "expires": said["created"] + 7 * 24 * 3600,
        "names": ["docker.io/library/app:2", "ghcr.io/a/b:latest"],
        "platform": "linux/amd64",
        "version": 1,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_openssh_alone_checks_the_file(desk: Desk, kind: str) -> None:
    desk.signers.write_text(f'ann@example.com namespaces="image@layerferry" {desk.keys.public(kind)}\n')
    file = desk.sign(desk.keys.private(kind))
    statement = file.read_bytes().splitlines(keepends=True)[-1]
    command = ["-Y", "verify", "-f", str(desk.signers), "-I", "ann@example.com", "-n", "image@layerferry"]
    assert signed.keygen(*command, "-s", str(file), stdin=statement).startswith(b'Good "image@layerferry"')


def test_a_rsa_key_signs_with_sha512(desk: Desk) -> None:
    file = desk.sign(desk.keys.private("rsa"))
    assert b"rsa-sha2-512" in SignedStatement.read_file(file.read_bytes()).signature


def test_verify_shows_who_signed_what_and_when(desk: Desk) -> None:
    file = desk.sign(desk.keys.private("ed25519"))
    for words in ((str(file),), (desk.image, "--signature", str(file))):
        told = desk.verify(*words).stdout.decode()
        assert "signed by ann@example.com (SHA256:" in told
        assert "without an end" in told
        assert PICTURE.id in told
        assert f"as {NAME}" in told


def test_verify_refuses_a_signature_on_another_image(desk: Desk) -> None:
    file = desk.sign(desk.keys.private("ed25519"))
    other = Picture.of("other", "")
    layout = write_folder(desk.folder / "other", layout_files([named_entry(other, NAME)], other.documents))
    done = desk.verify(f"oci:{layout}:1", "--signature", str(file), code=6)
    assert b"is not on oci:" in done.stderr


def test_verify_refuses_who_is_not_allowed_and_what_was_changed(desk: Desk) -> None:
    file = desk.sign(desk.keys.private("ecdsa"))
    assert b"nobody who is allowed to sign" in desk.verify(str(file), code=6).stderr
    file = desk.sign(desk.keys.private("ed25519"))
    file.write_text(file.read_text().replace("app:1", "app:2"))
    assert b"not over this statement" in desk.verify(str(file), code=6).stderr
    file.write_text("hello")
    assert b"is no signature of an image" in desk.verify(str(file), code=2).stderr
    done = desk.verify(
        str(desk.sign(desk.keys.private("ed25519"))), "--revoked", f"{desk.keys.private('ed25519')}.pub", code=6
    )
    assert b"revoked" in done.stderr


def test_a_file_of_a_gigabyte_is_not_read(desk: Desk) -> None:
    file = desk.folder / "large.sig"
    with file.open("wb") as large:
        large.truncate(1 << 30)
    for done in (desk.verify(str(file), code=2).stderr.decode(), desk.push("--signature", str(file), code=2)):
        assert "is no signature of an image: it is larger than 49152 bytes" in done


def test_verify_wants_to_know_where_the_signature_is(desk: Desk) -> None:
    assert b"where is the signature on" in desk.verify(desk.image, code=2).stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("info", [CLASSIC, CONTAINERD], ids=["classic", "containerd"])
def test_a_push_signs_with_a_key(tmp_path: Path, keys: Keys, kind: str, info: str) -> None:
    desk = Desk(tmp_path, keys, Bench(tmp_path, info=info))
    desk.signers.write_text(f"ann@example.com {keys.public(kind)}\n")
    desk.push("--sign-key", str(keys.private(kind)))
    assert desk.bench.names.keys() == {*BEFORE, NAME}
    naming = next(event for event in desk.bench.events if event["event"] == "naming")
    assert naming["signers"] == {NAME: ["ann@example.com"]}
    checked = next(event for event in desk.bench.events if event["event"] == "signed")
    assert (checked["principals"], checked["image"], checked["names"]) == (["ann@example.com"], PICTURE.id, [NAME])
    desk.push("--sign-key", str(keys.private(kind)))


def test_a_push_without_a_signature_says_how_to_make_one_and_sends_nothing(desk: Desk) -> None:
    told = desk.push(code=5)
    assert "with the signatures of 1 signers, and there are 0 here" in told
    assert "layerferry sign" in told
    assert not desk.bench.loads


def test_a_job_that_only_pushes_has_a_file(desk: Desk) -> None:
    file = desk.sign(desk.keys.private("ed25519"))
    desk.push("--signature", str(file))
    assert NAME in desk.bench.names


def test_a_signature_on_another_image_is_not_shown(desk: Desk) -> None:
    file = desk.sign(desk.keys.private("ed25519"), "--name", "app:2")
    assert "there are 0 here" in desk.push("--signature", str(file), code=5)


def test_two_signers_who_are_required(desk: Desk) -> None:
    desk.signers.write_text(f"ann@x {desk.keys.public('ed25519')}\nbob@x {desk.keys.public('ecdsa')}\n")
    file = desk.sign(desk.keys.private("ed25519"))
    assert "signatures of 2 signers, and there are 1 here" in desk.push(
        "--signature", str(file), policy=("--require", "2"), code=5
    )
    desk.push("--signature", str(file), "--sign-key", str(desk.keys.private("ecdsa")), policy=("--require", "2"))
    assert NAME in desk.bench.names


@pytest.mark.parametrize("signs", ["key", "file"])
def test_the_step_of_a_ci_signs_or_shows_a_file(desk: Desk, tmp_path: Path, signs: str) -> None:
    """`layerferry run`; what stands for ssh leads to the receiver."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(f"#!/bin/sh\nexec {shlex.join(desk.receiver())}\n")
    (programs / "ssh").chmod(0o755)
    key = desk.keys.private("ed25519")
    variables: dict[str, Any] = {"LAYERFERRY_SIGN_KEY": key.read_text()}
    if signs == "file":
        variables = {"LAYERFERRY_SIGNATURES": str(desk.sign(key))}
    variables |= {"PATH": f"{programs}:{os.environ['PATH']}", "LAYERFERRY_TARGETS": "deploy@host"}
    desk("run", LAYERFERRY_IMAGES=desk.image, **variables)
    assert NAME in desk.bench.names


@pytest.mark.parametrize("form", ["openssh", "pem", "path", "crlf"])
def test_a_key_in_a_variable(desk: Desk, tmp_path: Path, form: str) -> None:
    key = tmp_path / "key"
    more = ["-m", "PEM"] if form == "pem" else []
    signed.keygen("-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "ann", *more, "-f", str(key))
    desk.signers.write_text(f"ann@x {' '.join((tmp_path / 'key.pub').read_text().split()[:2])}\n")
    (tmp_path / "key.pub").unlink()
    value = str(key) if form == "path" else key.read_text()
    key.chmod(0o644)  # as a CI's file variables are
    value = value.replace("\n", "\\r\\n") if form == "crlf" else value
    desk.push(LAYERFERRY_SIGN_KEY=value)
    assert NAME in desk.bench.names


def test_a_key_that_an_agent_has(desk: Desk, agent: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    signed.keygen("-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", str(key))
    add(agent, key)
    key.unlink()
    desk.signers.write_text(f"ann@x {' '.join((tmp_path / 'key.pub').read_text().split()[:2])}\n")
    desk.push("--sign-key", f"{key}.pub", SSH_AUTH_SOCK=agent)
    assert NAME in desk.bench.names
    assert "does not sign" in desk("sign", desk.image, "--key", f"{key}.pub", code=2).stderr.decode()


def test_a_short_lived_certificate_of_a_ca(desk: Desk, agent: str) -> None:
    """Keyless: the job makes a key, and gets a certificate for it; the host knows the CA alone."""
    desk.signers.write_text(f'*@ci.example.com cert-authority,namespaces="image@layerferry" {desk.keys.ca}\n')
    certificate = desk.keys.certificate("ed25519-job", "main@ci.example.com", "-V", "-5m:+10m")
    desk.push("--sign-key", str(certificate))
    assert desk.bench.events[-2]["event"] == "named"
    add(agent, desk.keys.private("ed25519-job"))  # ssh-add takes the certificate beside it, too
    desk.push("--sign-key", str(certificate), SSH_AUTH_SOCK=agent)


def test_the_example_without_a_key_gets_a_certificate_that_signs(desk: Desk, tmp_path: Path) -> None:
    """The script of ci-examples/gitlab-signed.yml in a real shell; Vault's stand-in is ssh-keygen with a CA of ours."""
    text = (Path(__file__).parents[2] / "ci-examples/gitlab-signed.yml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if "cert-authority" in line)
    desk.signers.write_text(line.removeprefix("#").strip().replace("ssh-ed25519 AAAA...", desk.keys.ca) + "\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    vault = f"""
        case $3 in
            auth/*) test "$(cat)" = the-id-token && echo the-token && exit ;;
            *) test "$VAULT_TOKEN" = the-token || exit 1 ;;
        esac
        for word; do
            case $word in
                public_key=@*) cp "${{word#*@}}" {tmp_path}/job.pub ;;
                valid_principals=*) name=${{word#*=}} ;;
            esac
        done
        ssh-keygen -q -s {desk.keys.private("ed25519-ca")} -I job -n "$name" -V -1m:+10m {tmp_path}/job.pub
        cat {tmp_path}/job-cert.pub
    """
    output = tmp_path / "output.sig"
    sign = f'{sys.executable} -m layerferry sign {desk.image} --key "$LAYERFERRY_SIGN_KEY" --output {output}'
    for name, body in {"vault": vault, "docker": "exit 0", "pipx": sign}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    script = "\n".join(YAML(typ="safe").load(text)["deploy"]["script"])
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "VAULT_ID_TOKEN": "the-id-token",
        "TMPDIR": str(tmp_path),
    }
    subprocess.run(
        ["sh", "-eu", "-c", script], env=environment | {"LAYERFERRY_IMAGES": "app", "CI_JOB_URL": "u"}, check=True
    )
    assert b"signed by main@ci.example.com" in desk.verify(str(output)).stdout
    assert not list(tmp_path.glob("tmp.*"))


def test_a_host_that_asks_for_none_is_told_of(desk: Desk) -> None:
    given = [f"{name}={value}" for name, value in desk.bench.environment.items()]
    receiver = [sys.executable, "-m", "layerferry", "receive", "--allow", "app:*", "--log", str(desk.bench.log)]
    key = str(desk.keys.private("ed25519"))
    done = desk("push", desk.image, "--sign-key", key, "--", "env", "-i", *given, *receiver)
    assert b"does not ask for signatures" in done.stdout + done.stderr
    assert "signed" not in [event["event"] for event in desk.bench.events]


def test_no_key_is_on_a_command_line_or_in_an_output(desk: Desk, tmp_path: Path) -> None:
    wrapper = tmp_path / "wrapped"
    wrapper.mkdir()
    seen = tmp_path / "seen"
    (wrapper / "ssh-keygen").write_text(
        f'#!/bin/sh\n{{ echo "$@"; env; }} >>{seen}\nPATH=/usr/bin:/bin exec ssh-keygen "$@"\n'
    )
    (wrapper / "ssh-keygen").chmod(0o755)
    key = desk.keys.private("ed25519").read_text()
    told = desk.push(LAYERFERRY_SIGN_KEY=key, PATH=f"{wrapper}:{os.environ['PATH']}")
    secret = key.splitlines()[2]
    assert "sign" in seen.read_text()
    assert secret not in seen.read_text()
    assert secret not in told


def test_a_key_that_is_none_is_told_without_its_content(desk: Desk) -> None:
    told = desk.push(LAYERFERRY_SIGN_KEY="-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0", code=2)
    assert "LAYERFERRY_SIGN_KEY holds a key that is cut off" in told
    assert "c2VjcmV0" not in told
    assert "LAYERFERRY_SIGN_KEY is empty" in desk.push(LAYERFERRY_SIGN_KEY=" ", code=2)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (None, "nothing can be signed: there is no ssh-keygen"),
        ("#!/bin/sh\nexit 3\n", "does not sign: ssh-keygen ended with status 3"),
        ("\x7fELF, but no more", "does not sign: ssh-keygen cannot be started: Exec format error"),
        ("#!/bin/sh\ncat >/dev/null; echo odd\n", "does not sign: there is no SSH SIGNATURE where it should be"),
    ],
)
def test_an_ssh_keygen_that_does_not_sign_is_told(desk: Desk, tmp_path: Path, program: str | None, says: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat"):
        (tools / name).symlink_to(f"/bin/{name}")
    if program:
        (tools / "ssh-keygen").write_text(program)
        (tools / "ssh-keygen").chmod(0o755)
    words = ("sign", desk.image, "--key", str(desk.keys.private("ed25519")), "--output", "-")
    assert says in desk(*words, code=2, PATH=str(tools)).stderr.decode()


def test_nothing_is_verified_without_ssh_keygen(desk: Desk, tmp_path: Path) -> None:
    file = desk.sign(desk.keys.private("ed25519"))
    words = ("verify", str(file), "--signers", str(desk.signers))
    told = desk(*words, code=2, PATH=str(tmp_path / "state")).stderr.decode()
    assert "nothing can be verified: there is no ssh-keygen" in told


def test_a_signature_that_cannot_be_written_is_told(desk: Desk) -> None:
    words = ("sign", desk.image, "--key", str(desk.keys.private("ed25519")), "--output", str(desk.folder / "no/file"))
    assert "no/file could not be written: No such file or directory" in desk(*words, code=1).stderr.decode()
