"""Where docker's own rules find the daemon, held to a daemon over TLS, and what is said where they find none."""

import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from layerferry.ci.daemon_address import DaemonTls, _readable, find_address, read_json
from layerferry.ci.machine import gather
from layerferry.errors import SourceError, UsageError
from layerferry.sources.daemon.api import Daemon
from rig import tls

ANSWERS = {"/version": {"ApiVersion": "1.43"}, "/info": {"ServerVersion": "24", "Driver": "vfs", "OSType": "linux"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Tcp"

    def do_GET(self) -> None:
        self.server.heard.append(dict(self.headers))
        path = self.path[self.path.index("/", 1) :] if self.path.startswith("/v1.") else self.path
        body = json.dumps(ANSWERS.get(path.partition("?")[0], {"message": "no"})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Tcp(ThreadingHTTPServer):
    """A daemon at a port; with `certificates` it speaks TLS, and wants a certificate of the client's."""

    daemon_threads = True

    def __init__(self, certificates: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[Mapping[str, str]] = []
        if certificates:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
            context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
            context.verify_mode = ssl.CERT_REQUIRED
            # As Go, and as docker:dind needs it: no Authority Key Identifier in any of these.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, *_: object) -> None:
        pass

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.server_port}"


def serve(server: Tcp) -> Iterator[Tcp]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def plain() -> Iterator[Tcp]:
    yield from serve(Tcp())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certs"
    tls.create(folder, "127.0.0.1")
    return folder


@pytest.fixture
def encrypted(certificates: Path) -> Iterator[Tcp]:
    yield from serve(Tcp(certificates))


def ask(environ: Mapping[str, str]) -> str:
    with closing(Daemon(environ)) as daemon:
        return daemon.version()[0]


# TLS, as the variables ask for it.


@pytest.mark.parametrize("value", ["1", "0", "false", "no"])
def test_any_value_asks_for_verified_tls(encrypted: Tcp, certificates: Path, value: str) -> None:
    """docker/cli, cli/flags/options.go: what is not empty is set."""
    environ = {"DOCKER_HOST": encrypted.url, "DOCKER_TLS_VERIFY": value, "DOCKER_CERT_PATH": str(certificates)}
    assert ask(environ) == "docker 24 (vfs), linux"


def test_a_folder_of_certificates_alone_asks_for_no_tls(plain: Tcp, certificates: Path) -> None:
    assert ask({"DOCKER_HOST": plain.url, "DOCKER_CERT_PATH": str(certificates)})
    assert ask({"DOCKER_HOST": plain.url, "DOCKER_CERT_PATH": "/nowhere", "DOCKER_TLS_VERIFY": ""})


def test_docker_tls_does_not_verify_the_server(
    encrypted: Tcp, certificates: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for name in ("cert.pem", "key.pem"):
        shutil.copy(certificates / name, tmp_path)
    folder = {"DOCKER_CERT_PATH": str(tmp_path)}
    assert ask({"DOCKER_HOST": encrypted.url, "DOCKER_TLS": "1", **folder})
    assert not recwarn.list
    with pytest.raises(SourceError, match=r"there is no ca\.pem"):
        ask({"DOCKER_HOST": encrypted.url, "DOCKER_TLS": "1", "DOCKER_TLS_VERIFY": "1", **folder})


def test_certificates_are_in_dockers_own_folder_unless_another_one_is_named(
    encrypted: Tcp, certificates: Path, tmp_path: Path
) -> None:
    shutil.copytree(certificates, tmp_path / ".docker")
    tls = {"DOCKER_HOST": encrypted.url, "DOCKER_TLS_VERIFY": "1"}
    assert ask({**tls, "HOME": str(tmp_path)})
    assert ask({**tls, "HOME": "/nowhere", "DOCKER_CONFIG": str(certificates)})


def test_what_dind_shares_is_used_as_its_own_image_does(
    encrypted: Tcp, plain: Tcp, certificates: Path, tmp_path: Path
) -> None:
    """docker-library/docker, docker-entrypoint.sh: DOCKER_TLS_CERTDIR/client, if it is whole, and no word else."""
    shutil.copytree(certificates, tmp_path / "client")
    shared = {"DOCKER_TLS_CERTDIR": str(tmp_path)}
    assert ask({"DOCKER_HOST": encrypted.url, **shared})
    assert ask({"DOCKER_HOST": encrypted.url, "DOCKER_TLS_VERIFY": "1", **shared})
    assert ask({"DOCKER_HOST": plain.url, "DOCKER_CERT_PATH": "/nowhere", **shared})
    (tmp_path / "client/key.pem").write_text("")
    assert ask({"DOCKER_HOST": plain.url, **shared})


def test_a_socket_has_no_tls() -> None:
    environ = {"DOCKER_HOST": "unix:///x.sock", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"}
    assert find_address(environ).tls is None
    assert find_address({**environ, "DOCKER_HOST": "ssh://h"}).tls is None


def test_a_certificate_of_another_authority_is_refused(encrypted: Tcp, certificates: Path, tmp_path: Path) -> None:
    """Nor is one of the system's, or of a bundle that a variable names, as good."""
    tls.create(tmp_path / "other", "127.0.0.1")
    for name in ("cert.pem", "key.pem"):
        shutil.copy(certificates / name, tmp_path / "other")
    environ = {"DOCKER_HOST": encrypted.url, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path / "other")}
    with pytest.raises(SourceError, match="certificate verify failed"):
        ask(environ)


# Certificates that are not there.


def spoilt(certificates: Path, folder: Path, what: str) -> None:
    """GitLab's most common mistakes, by name."""
    if what == "no folder":
        return
    shutil.copytree(certificates, folder)
    if what == "an encrypted key":
        words = ["openssl", "pkey", "-in", "key.pem", "-aes256", "-passout", "pass:secret", "-out", "new.pem"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        (folder / "new.pem").replace(folder / "key.pem")
    elif what == "another's key":
        (folder / "key.pem").write_bytes((folder / "ca-key.pem").read_bytes())
    elif what.startswith("no "):
        (folder / what.removeprefix("no ")).unlink()
    elif what.startswith("a folder "):
        (folder / what.removeprefix("a folder ")).unlink()
        (folder / what.removeprefix("a folder ")).mkdir()
    else:
        (folder / what.removeprefix("an empty ")).write_text("")


SPOILT = {
    "no folder": "there is no ca.pem for the docker daemon's TLS in ",
    "no ca.pem": "there is no ca.pem for the docker daemon's TLS in ",
    "no cert.pem": "there is no cert.pem for the docker daemon's TLS in ",
    "no key.pem": "there is no key.pem for the docker daemon's TLS in ",
    "a folder ca.pem": "there is no ca.pem for the docker daemon's TLS in ",
    "an empty ca.pem": "the docker daemon's TLS cannot be used: ",
    "an empty key.pem": "the docker daemon's TLS cannot be used: ",
    "an encrypted key": "the docker daemon's TLS cannot be used: its key is encrypted",
    "another's key": "the docker daemon's TLS cannot be used: ",
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_certificate_that_is_none_is_told_in_one_sentence(
    certificates: Path, encrypted: Tcp, tmp_path: Path, what: str
) -> None:
    spoilt(certificates, tmp_path / "certs", what)
    environ = {"DOCKER_HOST": encrypted.url, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path / "certs")}
    with pytest.raises(SourceError) as caught:
        ask(environ)
    assert caught.value.message.startswith(SPOILT[what])
    assert str(tmp_path / "certs") in caught.value.message + caught.value.hint


def run(tmp_path: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "layerferry", *words],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("words", [("push", "app:1", "--", "cat"), ("run",), ("doctor",)])
def test_every_command_tells_it_and_shows_no_traceback(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexec cat >/dev/null\n")
    (tmp_path / "ssh").chmod(0o755)
    environ = {"DOCKER_HOST": "tcp://docker:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs/client"}
    job = {"LAYERFERRY_IMAGES": "app:1", "LAYERFERRY_TARGETS": "h", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run(tmp_path, *words, **environ, **job)
    said = done.stdout + done.stderr
    assert done.returncode == 3, said
    assert "there is no ca.pem for the docker daemon's TLS in /certs/client" in said
    assert "DOCKER_TLS_VERIFY" in said
    assert "Traceback" not in said


def test_a_daemon_that_wants_tls_says_so(plain: Tcp) -> None:
    said = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            own, _ = server.accept()
            with own:
                own.recv(4096)
                own.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceError, match="Client sent an HTTP request to an HTTPS server") as caught:
            ask({"DOCKER_HOST": f"tcp://127.0.0.1:{server.getsockname()[1]}"})
        thread.join()
    assert "DOCKER_TLS_VERIFY" in caught.value.hint


# What is for other servers.


def test_variables_for_other_servers_do_not_touch_the_daemon(
    plain: Tcp, encrypted: Tcp, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/nowhere/bundle.pem")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    tls = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
    assert ask({**os.environ, "DOCKER_HOST": plain.url})
    assert ask({**os.environ, "DOCKER_HOST": encrypted.url, **tls})
    assert not any("Authorization" in headers for headers in (*plain.heard, *encrypted.heard))


# Contexts.


def write_context(folder: Path, name: str, host: str, **endpoint: object) -> Path:
    """A context as `docker context create` writes it; the folder of its certificates, which is not there yet."""
    hashed = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts/meta" / hashed / "meta.json"
    meta.parent.mkdir(parents=True)
    docker = {"Host": host, "SkipTLSVerify": False, **endpoint}
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": docker}}))
    return folder / "contexts/tls" / hashed / "docker"


def test_a_context_is_found_where_there_is_no_configuration(tmp_path: Path, plain: Tcp) -> None:
    """`docker context create` writes no config.json, and a job has none."""
    write_context(tmp_path / ".docker", "build", plain.url)
    assert ask({"HOME": str(tmp_path), "DOCKER_CONTEXT": "build"})
    assert gather({"HOME": str(tmp_path), "DOCKER_CONTEXT": "build"}).context_host == plain.url


def test_the_current_context_is_followed_also_in_another_folder(tmp_path: Path, plain: Tcp) -> None:
    write_context(tmp_path, "build", plain.url)
    (tmp_path / "config.json").write_text('{"currentContext": "build"}')
    assert find_address({"DOCKER_CONFIG": str(tmp_path), "HOME": "/nowhere"}).shown == plain.url
    named = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "default"}
    assert find_address(named).shown == "unix:///var/run/docker.sock"
    assert find_address({"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "tcp://a:1"}).shown == "tcp://a:1"


def test_a_checkout_supplies_no_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither a configuration nor a home the SDK looked into the current folder."""
    for folder in (tmp_path, tmp_path / ".docker"):
        write_context(folder, "build", "tcp://evil.example:2375")
        (folder / "config.json").write_text('{"currentContext": "build"}')
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    for environ in ({"HOME": str(tmp_path / "home")}, {"HOME": "."}, {}):
        assert find_address(environ).shown == "unix:///var/run/docker.sock"
        with pytest.raises(SourceError, match="there is no docker context 'build'"):
            find_address({**environ, "DOCKER_CONTEXT": "build"})


@pytest.mark.parametrize(("skips", "lacks"), [(False, ""), (True, "ca.pem")])
def test_a_context_has_its_own_certificates(
    tmp_path: Path, encrypted: Tcp, certificates: Path, skips: bool, lacks: str
) -> None:
    folder = write_context(tmp_path, "build", encrypted.url, SkipTLSVerify=skips)
    shutil.copytree(certificates, folder)
    if lacks:
        (folder / lacks).unlink()
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "build", "DOCKER_CERT_PATH": "/nowhere"}
    assert ask({**environ, "DOCKER_TLS_VERIFY": "1"}), "the variables are for the default context"


def test_a_context_without_certificates_goes_without_tls(tmp_path: Path, plain: Tcp) -> None:
    write_context(tmp_path, "build", plain.url)
    assert ask({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "build"})


def test_a_current_context_that_is_gone_is_told_of_and_no_other_daemon_taken(tmp_path: Path) -> None:
    """docker says so, too; the daemon of this machine's socket is not the one that was meant."""
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text('{"currentContext": "gone"}')
    done = run(tmp_path, "push", "app:1", "--", "cat")
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no docker context 'gone'" in done.stderr


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", '{"Endpoints": 5}', '{"Endpoints": {"docker": {"Host": 5}}}'])
def test_a_context_that_is_none_is_told_of(tmp_path: Path, text: str) -> None:
    write_context(tmp_path, "build", "tcp://x:1")
    (meta,) = tmp_path.glob("contexts/meta/*/meta.json")
    meta.write_text(text)
    with pytest.raises(SourceError, match="docker"):
        find_address({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "build"})


# Addresses.


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("unix://", "unix:///var/run/docker.sock"),
        ("unix:///Run/User%20x.sock", "unix:///Run/User%20x.sock"),
        ("unix://Relative/x.sock", "unix://Relative/x.sock"),
        ("tcp://docker", "http://docker:2375"),
        ("tcp://:2375", "http://127.0.0.1:2375"),
        ("tcp://h:1/base/", "http://h:1/base"),
        ("tcp://[::1]:2375", "http://[::1]:2375"),
        ("docker:2375", "http://docker:2375"),
        (" tcp://docker:2375\n".strip(" "), "http://docker:2375"),
        ("http://docker:1", "http://docker:1"),
        ("https://docker", "https://docker:2376"),
        ("ssh://u@MyHost/x", "ssh://u@MyHost/x"),
    ],
)
def test_addresses_are_read_as_docker_reads_them(host: str, url: str) -> None:
    assert find_address({"DOCKER_HOST": host.strip()}).url == url


def test_tls_has_another_port(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": "tcp://docker", "DOCKER_TLS": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    found = find_address(environ)
    assert (found.url, found.tls) == ("https://docker:2376", DaemonTls(verify=False))


@pytest.mark.parametrize(
    "host", ["npipe:////./pipe/docker_engine", "fd://", "tcp://", "tcp://h:99999", "tcp://h?x", "x://y"]
)
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="DOCKER_HOST"):
        find_address({"DOCKER_HOST": host})


@pytest.mark.parametrize("method", ["exists", "is_file"])
def test_a_file_that_may_not_be_read_is_named(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path, read = tmp_path / "config.json", read_json if method == "exists" else _readable
    what = f"docker's configuration {path}" if method == "exists" else str(path)
    with monkeypatch.context() as changed:
        changed.setattr(Path, method, refuse)
        with pytest.raises(SourceError, match=rf"^{what} cannot be read: Permission denied$"):
            read(path)
