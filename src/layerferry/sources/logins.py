"""The user's registry logins: the docker CLI's configuration, its credential helpers, and podman's auth.json.

Docs: https://docs.docker.com/reference/cli/docker/login/ ("Credential stores", "Credential helpers"),
https://github.com/docker/docker-credential-helpers, containers-auth.json(5).
"""

import base64
import binascii
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerferry.processes import child_environment

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


def _configurations(environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each configuration that is there and can be read. A damaged one counts as none: the registry may be public."""
    if text := environ.get("DOCKER_AUTH_CONFIG"):
        yield "DOCKER_AUTH_CONFIG", _loads(text)
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    folder = Path(environ["DOCKER_CONFIG"]) if environ.get("DOCKER_CONFIG") else home / ".docker"
    paths = [folder / "config.json"]
    if file := environ.get("REGISTRY_AUTH_FILE"):
        paths.insert(0, Path(file))
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        paths.append(Path(runtime) / "containers" / "auth.json")
    for path in paths:
        try:
            yield str(path), _loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue


def _loads(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _helped(registry: str, document: Mapping[str, Any], environ: Mapping[str, str]) -> Login | None:
    """What a credential helper knows; None where none is set for this registry, or it knows nothing."""
    helpers = document.get("credHelpers") or {}
    names = {"docker.io", _HUB_KEY, *_HUB} if registry in _HUB else {registry}
    name = next((helpers[key] for key in helpers if key in names), "") or document.get("credsStore") or ""
    if not name:
        return None
    program = f"docker-credential-{name}"
    if not isinstance(name, str) or not _HELPER.fullmatch(name):
        raise _HelperError("a credential helper has no proper name")
    if shutil.which(program, path=environ.get("PATH")) is None:
        raise _HelperError(f"{program} is not installed")
    server = _HUB_KEY if registry in _HUB else registry
    try:
        run = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            env=child_environment(environ),
            timeout=_HELPER_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _HelperError(f"{program} does not answer ({type(error).__name__})") from None
    if run.returncode:
        return None  # "credentials not found": no status of its own tells it from other troubles
    answer = _loads(run.stdout.decode(errors="replace"))
    user, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if user == _TOKEN_USER:
        return Login(identity_token=secret)
    return Login(user, secret) if secret else None


def _stored(registry: str, repository: str, document: Mapping[str, Any]) -> Login | None:
    """The entry of `auths` for the longest prefix of the repository's full name (podman's rule; docker has hosts)."""
    auths = document.get("auths")
    if not isinstance(auths, dict):
        return None
    entries = {_key(key): entry for key, entry in auths.items() if isinstance(entry, dict)}
    host = "docker.io" if registry in _HUB else registry
    prefix = f"{host}/{repository}"
    while prefix:
        if (entry := entries.get(prefix)) and (login := _login(entry)):
            return login
        prefix = prefix.rpartition("/")[0]
    return None


def _key(key: str) -> str:
    """A host without scheme and API version, and Docker Hub by one name: https://index.docker.io/v1/ is docker.io."""
    bare = re.sub(r"^https?://|/+$", "", key)
    bare = re.sub(r"/v[12]$", "", bare)
    host, slash, path = bare.partition("/")
    return ("docker.io" if host in _HUB else host) + slash + path


def _login(entry: Mapping[str, Any]) -> Login | None:
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(encoded)).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
    login = Login(
        user,
        password.rstrip("\0"),
        identity_token=str(entry.get("identitytoken") or ""),
        bearer=str(entry.get("registrytoken") or ""),
    )
    return login if password or login.identity_token or login.bearer else None
