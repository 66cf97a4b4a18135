"""The user's registry logins: the docker CLI's configuration, its credential helpers, and podman's auth.json.

Docs: https://docs.docker.com/reference/cli/docker/login/ ("Credential stores", "Credential helpers"),
https://github.com/docker/docker-credential-helpers, containers-auth.json(5).
"""

import base64
import contextlib
import os
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from layerferry.ci.daemon_address import configuration_folder
from layerferry.errors import LayerferryError
from layerferry.oci import limits
from layerferry.oci.documents import Document
from layerferry.processes import child_environment, end

#: What the docker CLI calls Docker Hub in its configuration.
_HUB_KEY = "https://index.docker.io/v1/"
_HUB = frozenset(("docker.io", "index.docker.io", "registry-1.docker.io"))
#: A helper that says this as the user means that the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Seconds; a helper may ask a cloud for a token.
_HELPER_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password, an identity (refresh) token, or a bearer token for a registry. `repr` shows none."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values to mask, also as RFC 7617 writes them."""
        basic = base64.b64encode(f"{self.user}:{self.password}".encode(errors="surrogateescape")).decode()
        return self.password, self.identity_token, self.bearer, basic if self.password else ""


def find_login(registry: str, repository: str, environ: Mapping[str, str]) -> tuple[Login | None, str]:
    """The login for `repository` (a path) at `registry` (host or host:port), and where it is from, or why none is.

    The first configuration that has one goes: DOCKER_AUTH_CONFIG, REGISTRY_AUTH_FILE, docker's, podman's.
    """
    trouble = []
    for place, document in _configurations(environ):
        login = None
        try:
            login = _helped(registry, document, environ)
        except _HelperError as error:
            trouble.append(f"{error}, and {place} names it")
        if login := login or _stored(registry, repository, document):
            return login, place
    return None, "; ".join(trouble) or f"no login for {registry} was found"


class _HelperError(Exception):
    """A credential helper that cannot be asked."""


class _DamagedError(LayerferryError):
    """A part of a configuration that is something else than it should be. It counts as none."""


def _configurations(environ: Mapping[str, str]) -> Iterator[tuple[str, Document]]:
    """Each configuration that is there and can be read. A damaged one counts as none: the registry may be public."""
    if text := environ.get("DOCKER_AUTH_CONFIG"):
        with contextlib.suppress(_DamagedError):
            yield "DOCKER_AUTH_CONFIG", _loads(text, "DOCKER_AUTH_CONFIG")
    folder = configuration_folder(environ)
    paths = [folder / "config.json"] if folder else []
    if named := environ.get("REGISTRY_AUTH_FILE"):
        paths.insert(0, Path(named))
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        paths.append(Path(runtime) / "containers" / "auth.json")
    for path in paths:
        with contextlib.suppress(OSError, ValueError, _DamagedError):
            if path.is_file():  # a pipe would be waited for
                with path.open("rb") as file:
                    document = _loads(file.read(limits.DOCUMENT + 1), str(path))
                yield str(path), document


def _loads(text: str | bytes, what: str) -> Document:
    return Document.parse(text, what, error=_DamagedError)


def _helper(registry: str, document: Document) -> str:
    """The name of the credential helper that is set for this registry, or for all."""
    helpers = document.object("credHelpers")
    names = {"docker.io", _HUB_KEY, *_HUB} if registry in _HUB else {registry}
    name = next((helpers.text(key, "") for key in helpers.members if key in names), "")
    return name or document.text("credsStore", "")


def _helped(registry: str, document: Document, environ: Mapping[str, str]) -> Login | None:
    """The login that a credential helper has; None where none is set for this registry, or it has none."""
    try:
        name = _helper(registry, document)
    except _DamagedError:
        return None
    if not name:
        return None
    program = f"docker-credential-{name}"
    if not _HELPER.fullmatch(name):
        raise _HelperError("a credential helper has no proper name")
    if shutil.which(program, path=environ.get("PATH")) is None:
        raise _HelperError(f"{program} is not installed")
    server = _HUB_KEY if registry in _HUB else registry
    try:
        said = _asked([program, "get"], server.encode(), child_environment(environ))
        if said is None:
            return None  # "credentials not found": no status of its own tells it from other troubles
        answer = _loads(said, "its answer")
        user, secret = answer.text("Username", ""), answer.text("Secret", "", most=limits.TOKEN)
    except _DamagedError as error:
        raise _HelperError(f"{program} does not answer with a login: {error.message}") from None
    except subprocess.TimeoutExpired:
        raise _HelperError(f"{program} gave no answer within {_HELPER_TIMEOUT:g} s") from None
    except OSError as error:
        raise _HelperError(f"{program} cannot be started: {error.strerror}") from None
    if user == _TOKEN_USER:
        return Login(identity_token=secret)
    return Login(user, secret) if secret else None


def _asked(argv: list[str], question: bytes, environ: Mapping[str, str]) -> bytes | None:
    """A program's stdout, of which little more than `limits.REPLY` bytes are read; None where it fails.

    Raises `OSError` and `TimeoutExpired`.
    """
    said, deadline = bytearray(), time.monotonic() + _HELPER_TIMEOUT
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=child_environment(environ)
        ) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(question)
            selector.register(process.stdout, selectors.EVENT_READ)
            while len(said) <= limits.REPLY:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise subprocess.TimeoutExpired(argv, _HELPER_TIMEOUT)
                if not (data := os.read(process.stdout.fileno(), 1 << 16)):
                    return None if process.wait(max(0.0, deadline - time.monotonic())) else bytes(said)
                said += data
            raise _DamagedError("it has no end")
        finally:
            end(process)


def _stored(registry: str, repository: str, document: Document) -> Login | None:
    """The entry of `auths` for the longest prefix of the repository's full name (podman's rule; docker has hosts)."""
    try:
        auths = document.object("auths")
    except _DamagedError:
        return None
    entries = {_key(key): entry for key, entry in auths.members.items() if isinstance(entry, dict)}
    host = "docker.io" if registry in _HUB else registry
    prefix = f"{host}/{repository}"
    while prefix:
        if (entry := entries.get(prefix)) and (login := _login(Document(entry, auths.what, _DamagedError))):
            return login
        prefix = prefix.rpartition("/")[0]
    return None


def _key(key: str) -> str:
    """A host without scheme and API version, and Docker Hub by one name: https://index.docker.io/v1/ is docker.io."""
    bare = key.removeprefix("https://").removeprefix("http://").rstrip("/").removesuffix("/v1").removesuffix("/v2")
    host, slash, path = bare.partition("/")
    return ("docker.io" if host in _HUB else host) + slash + path


def _login(entry: Document) -> Login | None:
    """The login of an entry of `auths`; None where it has nothing to log in with, or is damaged."""
    try:
        user, password = entry.text("username", ""), entry.text("password", "", most=limits.TOKEN)
        if encoded := entry.text("auth", "", most=2 * limits.TOKEN):
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        identity = entry.text("identitytoken", "", most=limits.TOKEN)
        bearer = entry.text("registrytoken", "", most=limits.TOKEN).strip()
    except (_DamagedError, ValueError):
        return None
    if not (bearer.isascii() and bearer.isprintable()):
        return None  # it goes into a header as it is
    login = Login(user, password.rstrip("\0"), identity_token=identity, bearer=bearer)
    return login if password or login.identity_token or login.bearer else None
