"""A registry that does what a test tells it, in a thread: logins, ranges, redirects, breaks, uploads."""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

_UNSUPPORTED = b'{"errors": [{"code": "UNSUPPORTED", "message": "The operation is unsupported."}]}'
USER, PASSWORD, TOKEN = "anna", "sesame:1", "t0ken"


@dataclass
class FakeRegistry:
    """What it holds, how it behaves, and what it saw."""

    #: By digest, and by `NAME:TAG`, a media type and bytes.
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    auth: Literal["none", "basic", "token", "identity"] = "none"
    ranges: bool = True
    #: Bytes of a blob after which its connection breaks, and how often that happens.
    break_after: int = 0
    breaks: int = 0
    #: Statuses that are answered before anything else.
    statuses: list[int] = field(default_factory=list)
    #: Where blobs are to be had instead.
    redirect: str = ""
    realm: str = ""
    #: Statuses that the token service answers before it gives any.
    token_statuses: list[int] = field(default_factory=list)
    #: What a token has to be asked for, and how many requests it is good for; 0 for any number.
    scope: str = "repository:app:pull"
    lifetime: int = 0
    uses: int = 0
    #: What a registry that is pushed to does: where it says that an upload goes on, if it mounts, and what it forgets.
    location: str = "/uploads/{number}"
    mounts: bool = True
    forgets_tags: bool = False
    #: Whether it takes manifests of docker's media types; zot does not.
    takes_dockers: bool = True
    #: What it refuses with HTTP 405, by the beginning of a method and a path: `POST` of one that is only read.
    refuses: str = "none"
    #: How many bytes of an upload are read before nothing is heard of it any more, until this is set.
    stalls_after: int | None = None
    released: threading.Event = field(default_factory=threading.Event)
    #: Bytes of an upload after which its connection breaks, as often as `breaks` says.
    uploads: int = 0
    cancelled: int = 0
    #: Of uploads that are not done, by path, what has come; and how it lies about that.
    begun: dict[str, bytes] = field(default_factory=dict)
    #: What it tells of it: `nothing`, `too much`, `words`, `gone`, or that it has `another's bytes`; that it is `busy`,
    #: or wants a login, for which there is `no token`; the truth without.
    lie: str = ""
    #: How often the end of an upload is refused, which is kept.
    refusals: int = 0
    #: How often the end of an upload is not answered, though it is done, and the paths of those.
    silent_ends: int = 0
    ended: set[str] = field(default_factory=set)
    #: What is in the query of an upload's location.
    state: str = "state=a%3D"
    #: By repository, its blobs; any repository has those of `blobs`.
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    address: str = ""
    seen: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def add(self, name: str, media_type: str, manifest: bytes, blobs: Mapping[str, bytes]) -> str:
        self.tags[name] = media_type, manifest
        self.blobs |= blobs
        return f"registry:{self.address}/{name}"

    @property
    def read(self) -> list[str]:
        """The digests of the blobs that were asked for."""
        return [path.rpartition("/")[2] for _, path, _ in self.seen if "/blobs/" in path]


class _Handler(http.server.BaseHTTPRequestHandler):
    registry: FakeRegistry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        registry = self.registry
        registry.seen.append((self.command, self.path, dict(self.headers.items())))
        if registry.statuses[:1] == [401]:
            registry.statuses.pop(0)
            self._challenge()
        elif registry.statuses:
            self._say(registry.statuses.pop(0), b"{}", {"Retry-After": "0"})
        elif self.path.startswith("/token"):
            self._token(parse_qs(urlsplit(self.path).query), self.headers.get("Authorization", ""))
        elif not self._admitted():
            self._challenge()
        elif self.path == "/v2/":
            self._say(200, b"{}")
        elif match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path):
            self._manifest(match[1], match[2])
        elif (path := urlsplit(self.path).path) in registry.begun:
            self._tell_offset(path)
        elif match := re.fullmatch(r"/v2/(.+)/tags/list.*", self.path):
            tags = [name.partition(":")[2] for name in registry.tags if name.startswith(f"{match[1]}:")]
            self._say(200, json.dumps({"tags": tags}).encode())
        elif match := re.fullmatch(r"/v2/(.+)/blobs/(.+)", self.path):
            self._blob(match[1], match[2])
        else:
            self._say(404, b"{}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        """The last step of an upload, or a manifest."""
        registry = self.registry
        registry.seen.append(("PUT", self.path, dict(self.headers.items())))
        length = int(self.headers["Content-Length"])
        if registry.breaks:
            registry.breaks -= 1
            self.rfile.read(min(length, registry.break_after))
            self.close_connection = True
            return
        if registry.stalls_after is not None:
            self.rfile.read(min(length, registry.stalls_after))
            registry.released.wait()
            self.close_connection = True
            return
        data = self.rfile.read(length)
        if registry.statuses:
            self._say(registry.statuses.pop(0), b'{"errors": [{"code": "DENIED", "message": "quota\\nexceeded"}]}')
        elif not self._admitted():
            self._challenge()
        elif f"PUT {self.path}".startswith(registry.refuses):
            self._say(405, _UNSUPPORTED)
        elif not registry.takes_dockers and "docker" in self.headers.get("Content-Type", ""):
            self._say(415, b'{"errors": [{"code": "MANIFEST_INVALID"}]}')
        elif match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path):
            if not registry.forgets_tags:
                registry.tags[f"{match[1]}:{match[2]}"] = self.headers["Content-Type"], data
            registry.blobs[_digest(data)] = data
            self._say(201, b"")
        else:
            self._end_upload(data)

    def _end_upload(self, data: bytes) -> None:
        registry, parts = self.registry, urlsplit(self.path)
        (digest,) = parse_qs(parts.query)["digest"]
        name = parse_qs(parts.query).get("name", ["app"])[0]
        if registry.refusals:
            registry.refusals -= 1
            self._say(416, b"{}")
            return
        if parts.path in registry.ended:
            self._say(404, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}')
            return
        data = registry.begun.pop(parts.path, b"") + data
        if _digest(data) != digest:
            self._say(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            return
        registry.repositories.setdefault(name, {})[digest] = data
        if registry.silent_ends:
            registry.silent_ends -= 1
            registry.ended.add(parts.path)
            self.close_connection = True
            return
        self._say(201, b"")

    def _tell_offset(self, path: str) -> None:
        """How much of an upload is here, by its own rule."""
        registry = self.registry
        match registry.lie:
            case "nothing":
                self._say(204, b"", {"Location": self.path})
            case "too much":
                self._say(204, b"", {"Location": self.path, "Range": "0-99999999999"})
            case "words":
                self._say(204, b"", {"Location": self.path, "Range": "all of it"})
            case "gone":
                self._say(404, b"{}")
            case "busy":
                self._say(503, b"{}")
            case "no token":
                registry.token_statuses = [500] * 4
                self._challenge()
            case _:
                if registry.lie:
                    registry.begun[path] = bytes(len(registry.begun[path]))
                    registry.lie = ""
                self._say(204, b"", {"Location": self.path, "Range": f"0-{len(registry.begun[path]) - 1}"})

    def do_PATCH(self) -> None:
        """Bytes of an upload, from an offset on; none of it is no range to zot."""
        registry, path = self.registry, urlsplit(self.path).path
        registry.seen.append(("PATCH", self.path, dict(self.headers.items())))
        length, here = int(self.headers["Content-Length"]), registry.begun.get(path, b"")
        start = int(self.headers.get("Content-Range", "0-").partition("-")[0])
        if start != len(here) or not length:
            self.rfile.read(length)
            self._say(416, b"")
            return
        if registry.breaks:
            registry.breaks -= 1
            registry.begun[path] = here + self.rfile.read(min(length, registry.break_after))
            self.close_connection = True
            return
        registry.begun[path] = here + self.rfile.read(length)
        self._say(202, b"", {"Location": self.path, "Range": f"0-{len(registry.begun[path]) - 1}"})

    def do_DELETE(self) -> None:
        registry, digest = self.registry, self.path.rpartition("/")[2]
        registry.seen.append(("DELETE", self.path, dict(self.headers.items())))
        if "/manifests/" in self.path:
            registry.tags = {name: named for name, named in registry.tags.items() if _digest(named[1]) != digest}
        elif "/blobs/sha256:" in self.path:
            for blobs in registry.repositories.values():
                blobs.pop(digest, None)
        else:
            registry.cancelled += 1
            registry.begun.pop(urlsplit(self.path).path, None)
        self._say(204, b"")

    def _begin_upload(self, name: str) -> None:
        registry, query = self.registry, parse_qs(urlsplit(self.path).query)
        if not self._admitted():
            self._challenge()
        elif registry.mounts and (digest := query.get("mount", [""])[0]) in registry.repositories.get(
            query.get("from", [""])[0], {}
        ):
            registry.repositories.setdefault(name, {})[digest] = registry.repositories[query["from"][0]][digest]
            self._say(201, b"")
        else:
            registry.uploads += 1
            location = registry.location.format(number=registry.uploads, address=registry.address)
            self._say(202, b"", {"Location": f"{location}?{registry.state}&name={name}"})

    def do_POST(self) -> None:
        if match := re.fullmatch(r"/v2/(.+)/blobs/uploads/(?:\?.*)?", self.path):
            self.registry.seen.append(("POST", self.path, dict(self.headers.items())))
            if f"POST {self.path}".startswith(self.registry.refuses):
                self._say(405, _UNSUPPORTED)
                return
            self._begin_upload(match[1])
            return
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.registry.token_statuses:
            self._say(self.registry.token_statuses.pop(0), b"{}")
            return
        self.registry.seen.append(("POST", self.path, dict(self.headers.items())))
        form = parse_qs(body)
        if form.get("refresh_token") == [PASSWORD] and form.get("grant_type") == ["refresh_token"]:
            self._say(200, json.dumps({"access_token": TOKEN}).encode())
        else:
            self._say(401, b"{}")

    def _admitted(self) -> bool:
        given = self.headers.get("Authorization", "")
        match self.registry.auth:
            case "basic":
                return given == _basic()
            case "token" | "identity":
                self.registry.uses += 1
                run_out = self.registry.lifetime and self.registry.uses > self.registry.lifetime
                return given == f"Bearer {TOKEN}" and not run_out
        return True

    def _challenge(self) -> None:
        realm = self.registry.realm or f"http://{self.registry.address}/token"
        bearer = f'Bearer realm="{realm}",service="fake",scope="{self.registry.scope}"'
        self._say(401, b"{}", {"WWW-Authenticate": 'Basic realm="fake"' if self.registry.auth == "basic" else bearer})

    def _token(self, query: Mapping[str, list[str]], given: str) -> None:
        if self.registry.token_statuses:
            self._say(self.registry.token_statuses.pop(0), b'{"errors": [{"code": "NO", "message": "luck"}]}')
            return
        asked = query.get("service") == ["fake"] and query.get("scope") == [self.registry.scope]
        if asked and given == _basic():
            self.registry.uses = 0
            self._say(200, json.dumps({"token": TOKEN}).encode())
        else:
            self._say(401, b"{}")

    def _manifest(self, name: str, reference: str) -> None:
        if reference.startswith("sha256:"):
            data = self.registry.blobs.get(reference)
            media_type = json.loads(data).get("mediaType", "") if data else ""
        else:
            media_type, data = self.registry.tags.get(f"{name}:{reference}", ("", None))
        if data is None:
            self._say(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        else:
            self._say(200, data, {"Content-Type": media_type})

    def _blob(self, name: str, digest: str) -> None:
        data = self.registry.blobs.get(digest, self.registry.repositories.get(name, {}).get(digest))
        if data is None:
            self._say(404, b"{}")
        elif self.registry.redirect:
            self._say(307, b"", {"Location": f"{self.registry.redirect}/v2/app/blobs/{digest}"})
        else:
            self._stream(data)

    def _stream(self, data: bytes) -> None:
        status, start = 200, 0
        if (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) and self.registry.ranges:
            status, start = 206, int(match[1])
        whole = data[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        if self.registry.breaks and len(whole) > self.registry.break_after:
            self.registry.breaks -= 1
            self.wfile.write(whole[: self.registry.break_after])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(whole)

    def _say(self, status: int, data: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@contextmanager
def fake_registry(**behaviour: Any) -> Iterator[FakeRegistry]:
    registry = FakeRegistry(**behaviour)
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    registry.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        registry.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
