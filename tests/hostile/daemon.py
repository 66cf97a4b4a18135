"""A docker daemon that lies: a table of cases. An honest one of them is `HONEST`."""

import base64
import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hostile.serving import BROKEN_ANSWERS, SLOW_ANSWERS, Answering, Reply, Request, answer, document, endless_error
from hostile.words import (
    DEEP,
    DIGEST,
    DIGITS,
    LONG,
    NO_LISTS,
    NO_OBJECTS,
    NO_SIZES,
    NO_STRINGS,
    OTHER,
    PAINT,
    SPEECH,
    SURROGATE,
    dumps,
)
from packed import Picture, docker25, tar_of
from ustar import header, octal

SOURCE = (3,)
PICTURE = Picture.of("app", "gzip", "gzip")
ARCHIVE = docker25(PICTURE, "app:1")
VERSION = {"ApiVersion": "1.43", "Version": "24.0.9"}
IMAGE: dict[str, Any] = {
    "Id": PICTURE.id,
    "Os": "linux",
    "Architecture": "amd64",
    "GraphDriver": {"Name": "overlay2"},
    "RepoTags": ["app:1"],
    "RepoDigests": [],
    "Size": 6000,
    "RootFS": {"Type": "layers", "Layers": list(PICTURE.diff_ids)},
}
HISTORY = [{"Size": 3000, "CreatedBy": "COPY a /"}, {"Size": 3000, "CreatedBy": "COPY b /"}]
HONEST: Mapping[str, Reply] = {
    "/version": document(VERSION),
    "/info": document({"ServerVersion": "24.0.9", "Driver": "overlay2", "OSType": "linux"}),
    "/images/json": document([]),
    "/images/app:1/json": document(IMAGE),
    "/images/app:1/history": document(HISTORY),
    f"/images/{PICTURE.id}/json": document(IMAGE),
    f"/images/{PICTURE.id}/get": answer(ARCHIVE, Content_Type="application/x-tar"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What the daemon answers otherwise than an honest one, by path, and what must come of it.

    `dry`: whether it shows before anything is sent, and is tried with `--dry-run`. `reaches`: it reaches our registry.
    """

    name: str
    replies: Mapping[str, Reply]
    codes: tuple[int, ...] = SOURCE
    says: str = ""
    dry: bool = True
    options: tuple[str, ...] = ("--route", "export")
    reaches: bool = False

    def answering(self) -> Answering:
        replies = {**HONEST, **self.replies}

        def reply(request: Request) -> Reply:
            path = re.sub(r"^/v[0-9.]+", "", request.path.partition("?")[0]).replace("%3A", ":")
            if self.reaches and path.startswith("/distribution/"):
                return _reach(path, request.headers["x-registry-auth"])
            if self.reaches and (path.endswith("/tag") or request.method == "DELETE"):
                return answer(b"[]", "201 Created")
            pattern = next((key for key in replies if key.endswith("*") and path.startswith(key[:-1])), path)
            return replies.get(pattern) or document({"message": "no such thing"}, "404 Not Found")

        return reply


def _reach(path: str, login: str) -> bytes:
    """Ask the registry of layerferry for what it has not, as a daemon that reaches it."""
    name, _, tag = path.removeprefix("/distribution/").removesuffix("/json").rpartition(":")
    place, _, name = name.partition("/")
    known = json.loads(base64.urlsafe_b64decode(login))
    basic = base64.b64encode(f"{known['username']}:{known['password']}".encode()).decode()
    connection = http.client.HTTPConnection(place, timeout=5)
    connection.request("GET", f"/v2/{name}/manifests/{tag}", headers={"Authorization": f"Basic {basic}"})
    status = connection.getresponse().status
    connection.close()
    return document({"message": f"manifest unknown: {status}"}, "404 Not Found")


def inspected(name: str, codes: tuple[int, ...] = SOURCE, **fields: Any) -> Case:
    """An inspect answer with other fields; `...` takes a key away."""
    shown = {key: value for key, value in {**IMAGE, **fields}.items() if value is not ...}
    return Case(f"inspect: {name}", {"/images/app:1/json": document(shown)}, codes)


def layered(name: str, *diff_ids: Any, says: str = "") -> Case:
    shown = {**IMAGE, "RootFS": {"Type": "layers", "Layers": list(diff_ids)}}
    return Case(f"diff ID: {name}", {"/images/app:1/json": document(shown)}, says=says)


def told(path: str, name: str, content: Any, codes: tuple[int, ...] = SOURCE, **more: Any) -> Case:
    return Case(f"{path}: {name}", {path: document(content)}, codes, **more)


def refused(name: str, content: Any, status: str = "500 Internal Server Error", **more: Any) -> Case:
    body = content if isinstance(content, bytes) else dumps(content)
    reply = answer(body, status, Content_Type="application/json")
    return Case(f"an error: {name}", {"/images/app:1/json": reply}, **more)


INJECTIONS = (
    layered("speech after a digest", DIGEST + SPEECH),
    layered("speech alone", PICTURE.diff_ids[0], f"x{SPEECH}"),
    layered("a line feed at its end", DIGEST + "\n"),
    layered("a carriage return", DIGEST + "\rend"),
    layered("a NUL", DIGEST[:-1] + "\0"),
    layered("an escape", DIGEST[:-1] + "\x1b"),
    layered("a C1 control", DIGEST[:-1] + "\x9b"),
    layered("a word more", DIGEST + " end"),
    layered("reordered", "\u202e" + DIGEST),
    layered("painted", PAINT),
    layered("a surrogate", SURROGATE),
    layered("long", "sha256:" + LONG),
    inspected("an ID with speech", Id=DIGEST + SPEECH),
    inspected("a bare ID with speech", Id="a" * 64 + SPEECH),
    inspected("an ID with a line feed at its end", Id=DIGEST + "\n"),
    inspected("an ID with a word more", Id=DIGEST + " docker.io/library/victim:prod"),
    inspected("an ID that is a path", Id="sha256:../volumes/prune?x=" + "a" * 40),
    inspected("an ID in which a tag is given", Id=f"{OTHER}\ntag ../build?remote=http://x a:b\ndone\n"),
)

SHAPES = (
    *(inspected(f"ID is {name}", Id=value) for name, value in NO_STRINGS.items()),
    inspected("no ID", Id=...),
    inspected("ID painted", Id=PAINT),
    *(inspected(f"Os is {name}", Os=value) for name, value in NO_STRINGS.items() if name != "true"),
    inspected("no Os", Os=...),
    inspected("Os painted", Os=PAINT),
    inspected("Os with speech", Os="linux" + SPEECH),
    inspected("Os a surrogate", Os=SURROGATE),
    inspected("Os long", Os=LONG),
    inspected("no Architecture", Architecture=...),
    inspected("Architecture painted", Architecture=PAINT),
    inspected("Architecture a list", Architecture=["amd64"]),
    inspected("Variant painted", Variant=PAINT),
    inspected("Variant a list", Variant=["v8"]),
    inspected("Variant digits", Variant="v" + "9" * 5000, Architecture="arm"),
    *(inspected(f"RootFS is {name}", RootFS=value) for name, value in NO_LISTS.items()
      if name in {"string", "of-strings", "number"}),
    *(inspected(f"Layers is {name}", RootFS={"Layers": value}) for name, value in NO_LISTS.items()),
    layered("upper case", "sha256:" + "A" * 64),
    layered("other digits", "sha256:" + "\uff11" * 64),
    layered("short", DIGEST[:-1]),
    layered("empty", ""),
    layered("sha512", "sha512:" + "a" * 128),
    layered("a hundred thousand", *(f"sha256:{number:064x}" for number in range(100_000))),
    inspected("GraphDriver a string", (0, 3), GraphDriver="overlay2"),
    inspected("GraphDriver a list", (0, 3), GraphDriver=["overlay2"]),
    inspected("GraphDriver's name a list", (0, 3), GraphDriver={"Name": ["overlay2"]}),
    inspected("RepoDigests a string", (0, 3), RepoDigests="abc"),
    inspected("RepoDigests painted", (0, 3), RepoDigests=[PAINT]),
    *(Case(f"inspect: {name}", {"/images/app:1/json": answer(body, Content_Type="application/json")})
      for name, body in NO_OBJECTS.items()),
    told("/images/app:1/json", "deep in a field", {**IMAGE, "Config": {"Labels": DEEP}}, (0, 3)),
    told("/images/app:1/json", "an endless number", {**IMAGE, "Size": DIGITS}, (0, 3)),
)  # fmt: skip

GUESSES = (
    *(told("/images/app:1/history", name, value, (0, 3)) for name, value in NO_LISTS.items()),
    *(told("/images/app:1/history", f"Size {name}", [{"Size": value, "CreatedBy": "x"}] * 2, (0, 3))
      for name, value in NO_SIZES.items() if name not in {"object", "fraction", "null"}),
    told("/images/app:1/history", "no Size", [{"CreatedBy": "x"}] * 2, (0, 3)),
    told("/images/app:1/history", "CreatedBy painted", [{"Size": 1, "CreatedBy": PAINT}] * 2, (0, 3)),
    told("/images/app:1/history", "CreatedBy a list", [{"Size": 0, "CreatedBy": ["x"]}] * 2, (0, 3)),
    told("/images/app:1/history", "two hundred thousand", [{"Size": 0, "CreatedBy": "ENV a=b"}] * 200_000, (0, 3)),
    told("/images/app:1/history", "more bytes than there are", [{"Size": 1 << 62, "CreatedBy": "x"}] * 2, (0, 3)),
    *(told("/images/json", name, value, (0, 3)) for name, value in NO_LISTS.items()),
    *(told("/images/json", f"Size {name}", [{"Id": DIGEST, "Size": value, "RepoDigests": ["x@y"]}], (0, 3))
      for name, value in NO_SIZES.items() if name in {"string", "digits", "infinite", "nan", "list"}),
    told("/images/json", "ID a path", [{"Id": "../../x\n/y", "Size": 1, "RepoDigests": ["x@y"]}], (0, 3)),
    told("/images/json", "ID a list", [{"Id": [], "Size": 1, "RepoDigests": ["x@y"]}], (0, 3)),
    Case("a base: RootFS a list", {"/images/json": document([{"Id": DIGEST, "Size": 1, "RepoDigests": ["x@y"]}]),
                                   f"/images/{DIGEST}/json": document({"RootFS": ["x"]})}, (0, 3)),
    Case("a base: Layers of lists", {"/images/json": document([{"Id": DIGEST, "Size": 1, "RepoDigests": ["x@y"]}]),
                                     f"/images/{DIGEST}/json": document({"RootFS": {"Layers": [[1]]}})}, (0, 3)),
)  # fmt: skip

VERSIONS = (
    *(Case(f"version: {name}", {"/version": answer(body, Content_Type="application/json")})
      for name, body in NO_OBJECTS.items() if name in {"list", "string", "deep", "not-json", "digits", "painted"}),
    *(told("/version", f"ApiVersion {name}", {"ApiVersion": value}) for name, value in NO_STRINGS.items()),
    told("/version", "no ApiVersion", {}),
    told("/version", "ApiVersion painted", {"ApiVersion": PAINT}),
    told("/version", "ApiVersion a path", {"ApiVersion": "1.43/../../x"}),
    told("/version", "ApiVersion long", {"ApiVersion": "1." + "9" * 1_000_000}),
    Case("version: an error", {"/version": document({"message": PAINT}, "500 Oh")}),
)  # fmt: skip

ERRORS = (
    refused("painted", {"message": PAINT}, says="daemon"),
    refused("painted, and it is not there", {"message": PAINT}, "404 Not Found"),
    refused("long", {"message": LONG}),
    refused("a surrogate", {"message": SURROGATE}),
    refused("a list", [1]),
    refused("of a list", {"message": [PAINT]}),
    refused("deep", b"[" * 10_000),
    refused("digits", b'{"message": ' + b"9" * 5000 + b"}"),
    refused("no JSON", PAINT.encode()),
    refused("an unknown status", {"message": "x"}, "999 \x1b[31m"),
    Case("an error: endless", {"/images/app:1/json": endless_error}),
    *(Case(f"a redirect to {name}", {"/images/app:1/json": answer(status="301 Moved", Location=where)})
      for name, where in {"itself": "/v1.43/images/app:1/json", "elsewhere": "http://127.0.0.1:1/x\x1b[1m",
                          "a file": "file:///etc/passwd", "nowhere": "http://["}.items()),
)  # fmt: skip

TRANSPORT = (
    *(Case(f"inspect: {name}", {"/images/app:1/json": reply}) for name, reply in BROKEN_ANSWERS.items()),
    *(Case(f"version: {name}", {"/version": BROKEN_ANSWERS[name]})
      for name in ("endless", "gzip-bomb", "endless-continue", "garbage", "nothing")),
    *(Case(f"history: {name}", {"/images/app:1/history": BROKEN_ANSWERS[name]}, (0, 3))
      for name in ("endless", "endless-chunks")),
    Case("images: endless", {"/images/json": BROKEN_ANSWERS["endless"]}, (0, 3)),
    *(Case(f"inspect: {name}", {"/images/app:1/json": reply}, (4,), options=("--timeout", "2"))
      for name, reply in SLOW_ANSWERS.items()),
)  # fmt: skip


def _streamed(*heads: bytes, chunk: bytes = b"", end: bytes = b"") -> Reply:
    """An archive that begins so, and goes on with `chunk` for ever, if there is one."""

    def stream() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\n\r\n" + b"".join(heads)
        while chunk:
            yield chunk
        yield end

    return stream


def _members(*members: tuple[str, bytes]) -> bytes:
    return tar_of(dict(members))


def saved(name: str, reply: Reply | bytes, codes: tuple[int, ...] = SOURCE) -> Case:
    body = answer(reply) if isinstance(reply, bytes) and not reply.startswith(b"HTTP/") else reply
    return Case(f"save: {name}", {f"/images/{PICTURE.id}/get": body}, codes, dry=False)


_CONFIG = ("blobs/sha256/" + PICTURE.id[7:], PICTURE.config)
SAVES = (
    saved("endless zeros", _streamed(chunk=bytes(1 << 16))),
    saved("a name of 1 GiB", _streamed(header(b"././@LongLink", octal(1 << 30), b"L"), chunk=b"a" * 65536)),
    saved("a link's name of 1 GiB", _streamed(header(b"././@LongLink", octal(1 << 30), b"K"), chunk=b"a" * 65536)),
    saved("a pax header of 1 GiB", _streamed(header(b"pax", octal(1 << 30), b"x"), chunk=b"a" * 65536)),
    saved("a global pax header of 1 GiB", _streamed(header(b"pax", octal(1 << 30), b"g"), chunk=b"a" * 65536)),
    saved("pax headers for ever", _streamed(chunk=(header(b"pax", octal(6), b"x") + b"6 a=b\n" + bytes(506)) * 60)),
    saved("names for ever", _streamed(chunk=(header(b"././@LongLink", octal(2), b"L") + b"a\0" + bytes(510)) * 60)),
    saved("empty members for ever", _streamed(chunk=header(b"a", octal(0), b"0") * 100)),
    saved("documents for ever", _streamed(chunk=(header(b"a", octal(512), b"0") + b"{" + b" " * 510 + b"}") * 60)),
    saved("a size of a negative number", header(b"a", b"\xff" * 12, b"0") + bytes(1024)),
    saved("a size that is huge", header(b"a", b"\x80" + b"\xff" * 11, b"0") + bytes(1024)),
    saved("a size that is no number", header(b"a", b"12x\x1b45678901", b"0") + bytes(1024)),
    saved("no tar", PAINT.encode() * 100),
    saved("nothing", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    saved("cut short", ARCHIVE[: len(ARCHIVE) // 2]),
    saved("an error", document({"message": PAINT}, "500 Oh")),
    saved("manifest.json an object", _members(_CONFIG, ("manifest.json", b"{}"))),
    saved("manifest.json of numbers", _members(_CONFIG, ("manifest.json", b"[5]"))),
    saved("manifest.json without Config", _members(_CONFIG, ("manifest.json", b"[{}]"))),
    saved("manifest.json Config a list", _members(_CONFIG, ("manifest.json", b'[{"Config": []}]'))),
    saved("manifest.json deep", _members(("manifest.json", b"[" * 10_000))),
    saved("manifest.json digits", _members(("manifest.json", b"[" + b"9" * 5000 + b"]"))),
    saved("a manifest of numbers", _members(_CONFIG, ("m", dumps({"config": {"digest": PICTURE.id}, "layers": [5]})))),
    saved("a manifest, config a number", _members(_CONFIG, ("m", dumps({"config": {"digest": 5}, "layers": []})))),
    saved("a config, rootfs a list", _members(("m", dumps({"config": {"digest": PICTURE.id}, "layers": []})),
                                              ("blobs/sha256/" + PICTURE.id[7:], b'{"rootfs": []}'))),
    saved("a parent that is a list", _members(("x/json", b'{"parent": []}'), ("x/layer.tar", b"x" * 5000))),
)  # fmt: skip


def routed(name: str, reply: Reply) -> Case:
    return Case(f"distribution: {name}", {"/distribution/*": reply}, (0,), "export", options=())


def pushed(name: str, reply: Reply) -> Case:
    """It reaches our registry, and then its push fails."""
    options = ("--route", "registry")
    return Case(f"push: {name}", {"/images/127.0.0.1*": reply}, (7,), "", dry=False, options=options, reaches=True)


ROUTES = (
    routed("painted", document({"message": PAINT}, "500 Oh")),
    routed("long", document({"message": LONG}, "500 Oh")),
    routed("garbage", BROKEN_ANSWERS["garbage"]),
    routed("endless", endless_error),
    pushed("painted", answer(dumps({"error": PAINT}))),
    pushed("long", answer(dumps({"error": LONG}))),
    pushed("an error that is a list", answer(dumps({"error": [PAINT]}))),
    pushed("a list", answer(b"[1]\n")),
    pushed("deep", answer(b"[" * 10_000 + b"]" * 10_000 + b"\n")),
    pushed("digits", answer(b"9" * 5000 + b"\n")),
    pushed("an endless line", BROKEN_ANSWERS["endless"]),
    pushed("an error of HTTP", document({"message": PAINT}, "500 Oh")),
    pushed("nothing at all", answer(b"")),
)

CASES = (*INJECTIONS, *SHAPES, *GUESSES, *VERSIONS, *ERRORS, *TRANSPORT, *SAVES, *ROUTES)
