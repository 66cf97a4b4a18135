"""Where docker's own rules find the daemon: DOCKER_HOST, docker's contexts, and the variables of TLS.

Sources: docker/cli: cli/flags/options.go, cli/command/cli.go (`resolveContextName`), cli/context/store and
cli/context/docker/load.go, opts/hosts.go, cli/connhelper. docker-library/docker: docker-entrypoint.sh.
"""

import hashlib
import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from layerferry.ci.escape import as_text
from layerferry.disk import is_there
from layerferry.errors import LayerferryError, SourceError, UsageError
from layerferry.oci import limits
from layerferry.oci.documents import load

DEFAULT_SOCKET = "/var/run/docker.sock"
#: Where a client certificate of docker:dind is complete (docker-entrypoint.sh, `_should_tls`).
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")
#: Schemes after which there is a path, which may have any character.
_PATHS = frozenset({"unix", "npipe", "fd"})
_PLAIN_PORT, _TLS_PORT = 2375, 2376
_TLS_ADVICE = (
    "DOCKER_TLS_VERIFY and DOCKER_TLS ask for TLS, with the ca.pem, cert.pem and key.pem of DOCKER_CERT_PATH. "
    "docker:dind writes its own to $DOCKER_TLS_CERTDIR/client, a volume that this job must share."
)
_FORMS = "Write unix://PATH, tcp://HOST:PORT or ssh://[USER@]HOST[:PORT][/SOCKET]."


@dataclass(frozen=True, slots=True)
class DaemonTls:
    """What a connection with TLS needs. No `ca`: the system's; no `certificate` and `key`: we show none."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class SshAddress:
    """A daemon's host behind ssh, and its socket there; an empty one is that which `docker` uses there by itself."""

    user: str
    host: str
    port: int | None = None
    socket: str = ""

    @classmethod
    def parse(cls, url: str) -> "SshAddress":
        """Read `ssh://[USER@]HOST[:PORT][/SOCKET]`, case and escapes as they are meant; raises `UsageError`."""
        parts = urlsplit(url)
        user, _, place = parts.netloc.rpartition("@")
        host, bracket, port = place.removeprefix("[").partition("]") if place.startswith("[") else (place, "", "")
        if not bracket:
            host, _, port = place.partition(":")
        port, user, host, socket = port.removeprefix(":"), unquote(user), unquote(host), unquote(parts.path)
        known = port == "" or (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16)
        odd = not f"{user}{host}{socket}".isprintable() or host.startswith("-") or user.startswith("-")
        if parts.scheme != "ssh" or not host or odd or not known or parts.query or parts.fragment:
            raise UsageError(f"{url!r} is not the address of a daemon: it names no host for ssh", hint=_FORMS)
        return cls(user, host, int(port) if port else None, socket if socket.strip("/") else "")


@dataclass(frozen=True, slots=True)
class DaemonAddress:
    """`url` is unix://PATH, http://HOST:PORT, https://… or ssh://…; `shown` is what people call it."""

    url: str
    shown: str
    tls: DaemonTls | None = None


def find_address(environ: Mapping[str, str]) -> DaemonAddress:
    """Where the daemon is. DOCKER_HOST goes before DOCKER_CONTEXT, that before the current context.

    Raises `SourceError` where a context or a certificate cannot be read, `UsageError` for what is no address.
    """
    if host := environ.get("DOCKER_HOST", ""):
        return _address(host, "DOCKER_HOST", _tls_of_variables(host, environ))
    if name := context_name(environ):
        return _address_of_context(name, environ)
    return DaemonAddress(f"unix://{DEFAULT_SOCKET}", f"unix://{DEFAULT_SOCKET}")


def check_daemon_url(url: str, origin: str) -> str:
    """A daemon's address, if it can be one. Raises `UsageError`, which names `origin` and repeats no password."""
    if not as_text(url).isprintable():
        raise UsageError(f"{origin} has a control character in it")
    scheme, _, rest = url.rpartition("://")
    if scheme not in _PATHS and ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise UsageError(
            f"{origin} has a password in it", hint="Nothing takes one there. Use a key for ssh://, TLS for tcp://."
        )
    try:
        urlsplit(url)
    except ValueError:
        raise UsageError(f"{origin} is not the address of a daemon", hint=_FORMS) from None
    return url


def wants_tls(environ: Mapping[str, str]) -> bool:
    """Whether the variables ask for TLS: any value does, `0` and `false` too. DOCKER_CERT_PATH alone does not."""
    return bool(environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS"))


def _address(host: str, origin: str, tls: DaemonTls | None) -> DaemonAddress:
    text = check_daemon_url(host.strip(), origin)
    scheme, mark, rest = text.partition("://") if "://" in text else ("tcp", "://", text)
    if scheme == "unix":
        url = f"unix://{rest or DEFAULT_SOCKET}"
        return DaemonAddress(url, url)
    if scheme == "ssh":
        SshAddress.parse(text)
        return DaemonAddress(text, text)
    if scheme not in {"tcp", "http", "https"}:
        raise UsageError(f"{origin} is not the address of a daemon that we can reach", hint=_FORMS)
    tls = tls or (DaemonTls() if scheme == "https" else None)
    return DaemonAddress(_http(rest, origin, encrypted=tls is not None), f"{scheme}{mark}{rest}", tls)


def _http(rest: str, origin: str, *, encrypted: bool) -> str:
    """The URL for `[HOST][:PORT][/PATH]`, with what docker puts where there is none."""
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port or (_TLS_PORT if encrypted else _PLAIN_PORT)
    except ValueError:
        raise UsageError(f"{origin} is not the address of a daemon", hint=_FORMS) from None
    host = parts.hostname or "127.0.0.1"
    if not rest or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"{origin} is not the address of a daemon", hint=_FORMS)
    place = f"[{host}]" if ":" in host else host
    return f"{'https' if encrypted else 'http'}://{place}:{port}{parts.path.rstrip('/')}"


def _tls_of_variables(host: str, environ: Mapping[str, str]) -> DaemonTls | None:
    """The files of DOCKER_CERT_PATH, or those that docker:dind left where its own image would look for them."""
    if host.partition("://")[0] in {"unix", "ssh", "npipe", "fd"}:
        return None
    named = environ.get("DOCKER_CERT_PATH", "")
    shared = Path(environ.get("DOCKER_TLS_CERTDIR") or "/nowhere", "client")
    has_shared = not named and bool(environ.get("DOCKER_TLS_CERTDIR")) and is_complete(shared)
    if not wants_tls(environ) and not has_shared:
        return None
    verify = bool(environ.get("DOCKER_TLS_VERIFY")) or not wants_tls(environ)
    folder = shared if has_shared else Path(named) if named else configuration_folder(environ)
    return _tls(folder or Path(".docker"), verify=verify, needs_ca=verify)


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a whole client certificate."""
    try:
        return all((folder / name).stat().st_size > 0 for name in TLS_FILES)
    except OSError:
        return False


def _tls(folder: Path, *, verify: bool, needs_ca: bool) -> DaemonTls:
    """The files of a folder. docker goes on without a certificate of ours, and where none is verified without a CA."""
    ca, certificate, key = (_readable(folder / name) for name in TLS_FILES)
    lacking = [name for name, path in zip(TLS_FILES, (ca, certificate, key), strict=True) if path is None]
    if (needs_ca and ca is None) or (certificate is None) != (key is None):
        missing = "ca.pem" if needs_ca and ca is None else lacking[-1]
        raise SourceError(f"there is no {missing} for the docker daemon's TLS in {folder}", hint=_TLS_ADVICE)
    return DaemonTls(ca if verify else None, certificate, key, verify)


def _readable(path: Path) -> Path | None:
    """The path, if there is such a file; raises `SourceError` where it may not be read."""
    try:
        if not path.is_file() or path.stat().st_size > limits.DOCUMENT:
            return None
        with path.open("rb"):
            return path
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", hint=_TLS_ADVICE) from None


def configuration_folder(environ: Mapping[str, str]) -> Path | None:
    """Docker's folder of settings; None where there is no home, and never one of the current folder by itself."""
    if folder := environ.get("DOCKER_CONFIG"):
        return Path(folder)
    home = environ.get("HOME", "")
    if not home:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home, ".docker") if home.startswith("/") else None


def context_name(environ: Mapping[str, str], root: Path = Path("/")) -> str:
    """The name of docker's current context, "" for the default one. A configuration that is none counts for nothing."""
    name = environ.get("DOCKER_CONTEXT", "")
    folder = configuration_folder(environ)
    if not name and folder:
        try:
            said = read_json(below(root, folder / "config.json")).get("currentContext")
        except LayerferryError:
            said = None
        name = said if isinstance(said, str) else ""
    return "" if name == "default" else name


def context_endpoint(name: str, environ: Mapping[str, str], root: Path = Path("/")) -> tuple[str, bool]:
    """The address of a context's daemon, and whether its certificate is not to be verified. Raises `SourceError`."""
    folder = _context_folder("meta", name, environ)
    document = read_json(below(root, folder / "meta.json")) if folder else {}
    if not document:
        raise SourceError(f"there is no docker context {name!r}", hint="`docker context ls` shows them.")
    endpoints = document.get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(endpoint, dict) or not isinstance(host, str):
        raise SourceError(f"the docker context {name!r} cannot be read: it has no endpoint of docker")
    return host, endpoint.get("SkipTLSVerify") is True


def _address_of_context(name: str, environ: Mapping[str, str]) -> DaemonAddress:
    host, unverified = context_endpoint(name, environ)
    folder = _context_folder("tls", name, environ)
    tls = DaemonTls(verify=False) if unverified else None
    if folder and is_there(folder / "docker", stat.S_ISDIR):
        tls = _tls(folder / "docker", verify=not unverified, needs_ca=False)
    return _address(host or f"unix://{DEFAULT_SOCKET}", f"the docker context {name!r}", tls)


def _context_folder(what: str, name: str, environ: Mapping[str, str]) -> Path | None:
    folder = configuration_folder(environ)
    hashed = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    return folder / "contexts" / what / hashed if folder else None


def below(root: Path, path: Path | str) -> Path:
    """The same path below another root; a relative one is the current folder's."""
    return root / str(path).lstrip("/") if str(path).startswith("/") else Path(path)


def read_json(path: Path) -> Mapping[str, Any]:
    """A document of docker's configuration, empty where there is none. Raises `SourceError` where it is no object."""
    try:
        if not path.exists():
            return {}
        if not path.is_file() or path.stat().st_size > limits.DOCUMENT:  # a pipe would be waited for
            raise SourceError(f"docker's configuration {path} is no file of at most {limits.DOCUMENT} bytes")
        document = load(path.read_bytes(), f"docker's configuration {path}")
    except OSError as error:
        raise SourceError(f"docker's configuration {path} cannot be read: {error.strerror}") from None
    if not isinstance(document, dict):
        raise SourceError(f"docker's configuration {path} is no JSON object")
    return document
