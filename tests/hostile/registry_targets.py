"""A registry as the target: what it answers to whoever pushes. An honest one of them keeps what it is given."""

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from hostile.layouts import PICTURE
from hostile.serving import BROKEN_ANSWERS, SLOW_ANSWERS, Reply, Request, answer, document
from hostile.words import DEEP, DIGITS, LINE_PAINT, LONG, NO_LISTS, NO_OBJECTS, PAINT, dumps
from packed import Picture, digest_of

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Case:
    """What is answered otherwise, by `METHOD pattern` of its path."""

    name: str
    replies: Mapping[str, Reply] = field(default_factory=dict)
    codes: tuple[int, ...] = (5,)
    options: tuple[str, ...] = ()


@dataclass
class Keeper:
    """A registry of one repository that keeps what it is given, where a case says nothing else."""

    case: Case
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Reply:
        asked = f"{request.method} {request.path}"
        for pattern, reply in self.case.replies.items():
            if re.fullmatch(pattern, asked):
                return reply
        with self.lock:
            return self._honest(request)

    def _honest(self, request: Request) -> Reply:  # noqa: PLR0911 - a table
        parts = urlsplit(request.path)
        kind, _, name = parts.path.removeprefix("/v2/app/").partition("/")
        match request.method, kind:
            case "GET", _ if parts.path == "/v2/":
                return document({})
            case "GET", "tags":
                return document({"name": "app", "tags": sorted(self.tags)})
            case "GET" | "HEAD", "manifests":
                data = self.tags.get(name) or self.blobs.get(name)
                return answer(data, Content_Type=MANIFEST_TYPE) if data else document({}, "404 Not Found")
            case "GET" | "HEAD", "blobs":
                return answer(self.blobs[name]) if name in self.blobs else document({}, "404 Not Found")
            case "POST", "blobs":
                return answer(status="202 Accepted", Location="/v2/app/blobs/uploads/1")
            case "PUT", "blobs":
                self.blobs[parse_qs(parts.query)["digest"][0]] = request.body
                return answer(status="201 Created")
            case "PUT", "manifests":
                self.tags[name] = self.blobs[digest_of(request.body)] = request.body
                return answer(status="201 Created")
        return answer(status="204 No Content")


def stocked(case: Case, liar: Picture) -> Keeper:
    """One that holds an image whose config names the layers of ours, with blobs that are others: `latest` of `app`."""
    config = json.loads(PICTURE.config)
    config["history"] = []
    data = dumps(config)
    manifest = json.loads(liar.manifest)
    manifest["config"].update(digest=digest_of(data), size=len(data))
    document = dumps(manifest)
    return Keeper(case, {**liar.documents, digest_of(data): data, digest_of(document): document}, {"latest": document})


_TAGS = "GET /v2/app/tags/list.*"
_LATEST = document({"tags": ["latest"]})
_POST = "POST /v2/app/blobs/uploads/.*"
_PUT = "PUT /v2/app/blobs/.*"
_NAME = "PUT /v2/app/manifests/.*"
_ROOT = "GET /v2/"


def uploaded(name: str, location: str, codes: tuple[int, ...] = (4, 5)) -> Case:
    return Case(f"an upload goes on {name}", {_POST: answer(status="202 Accepted", Location=location)}, codes)


CASES = (
    *(Case(f"/v2/: {name}", {_ROOT: BROKEN_ANSWERS[name]}, (0, 4, 5))
      for name in ("endless", "gzip-bomb", "endless-header")),
    Case("/v2/: silence", {_ROOT: SLOW_ANSWERS["silence"]}, (4,), ("--timeout", "2")),
    *(Case(f"tags: {name}", {_TAGS: answer(body)}, (0, 5)) for name, body in NO_OBJECTS.items()
      if name in {"list", "deep", "digits", "not-json", "null"}),
    *(Case(f"tags are {name}", {_TAGS: document({"tags": value})}, (0, 5)) for name, value in NO_LISTS.items()),
    Case("tags: painted", {_TAGS: document({"tags": [PAINT, LONG, "../../x"]})}, (0, 5)),
    Case("tags: of digits", {_TAGS: document({"tags": ["1." + "9" * 5000, "2.\u0664"]})}, (0, 5)),
    Case("tags: a hundred thousand", {_TAGS: document({"tags": [f"v{n}" for n in range(100_000)]})}, (0, 5)),
    Case("tags: endless", {_TAGS: BROKEN_ANSWERS["endless"]}, (0, 4, 5)),
    *(Case(f"a manifest under latest: {name}", {"GET /v2/app/manifests/latest": answer(body), _TAGS: _LATEST}, (0, 5))
      for name, body in {"list": b"[]", "deep": dumps({"layers": DEEP}), "digits": dumps({"config": {"size": DIGITS}}),
                         "painted": dumps({"mediaType": PAINT})}.items()),
    Case("an upload is refused", {_POST: document({"errors": [{"code": PAINT, "message": PAINT}]}, "403 No")}),
    Case("an upload is too large", {_POST: document({"errors": [{"message": LONG}]}, "413 No")}),
    uploaded("nowhere", "http://["),
    uploaded("in a file", "file:///etc/passwd"),
    uploaded("on a port that is none", "http://127.0.0.1:99999999/x"),
    uploaded("in paint", f"http://{LINE_PAINT}/"),
    uploaded("at a long place", "/" + "x" * 60_000),
    Case("an upload has no place", {_POST: answer(status="202 Accepted")}, (4, 5)),
    Case("a blob is refused", {_PUT: document({"errors": [{"code": PAINT}]}, "400 No")}),
    Case("a blob is refused without end", {_PUT: BROKEN_ANSWERS["endless"]}, (0, 4, 5)),
    Case("a blob is answered with silence", {_PUT: SLOW_ANSWERS["silence"]}, (4,), ("--timeout", "2")),
    Case("a manifest is refused", {_NAME: document({"errors": [{"code": "X", "message": PAINT}]}, "400 No")}),
    Case("a manifest is another", {"GET /v2/app/manifests/1": answer(b"{}", Content_Type=MANIFEST_TYPE)}, (5, 6)),
    Case("a manifest is forgotten", {"GET /v2/app/manifests/1": document({}, "404 Not Found")}, (6,)),
    Case("a login is asked for in paint", {"[A-Z]+ /v2/app/.*": answer(b"", "401 No", WWW_Authenticate=LINE_PAINT)}),
)  # fmt: skip
