"""A registry and its token service that lie, as the source. `registry_targets` has a registry as the target."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hostile.layouts import CASES as LAYOUTS
from hostile.layouts import PICTURE, Draft
from hostile.serving import (
    BROKEN_ANSWERS,
    SLOW_ANSWERS,
    Answering,
    Reply,
    Request,
    answer,
    document,
    endless,
    endless_error,
)
from hostile.words import DEEP, DIGITS, LINE_PAINT, LONG, NO_LISTS, NO_OBJECTS, NO_STRINGS, PAINT, SURROGATE, dumps
from packed import digest_of

MANIFEST = "/v2/app/manifests/1"
CONFIG = f"/v2/app/blobs/{PICTURE.id}"
LAYER = f"/v2/app/blobs/{digest_of(PICTURE.layers[0])}"
HONEST: Mapping[str, Reply] = {
    "/v2/": document({}),
    MANIFEST: answer(PICTURE.manifest, Content_Type=PICTURE.manifest_type),
    CONFIG: answer(PICTURE.config),
    **{f"/v2/app/blobs/{digest_of(layer)}": answer(layer) for layer in PICTURE.layers},
}
#: What a registry says to those who have no token; `@` is its own address.
CHALLENGE = 'Bearer realm="http://@/token",service="fake",scope="repository:app:pull"'


@dataclass(frozen=True, slots=True)
class Case:
    """What is answered otherwise, by path; with `challenge`, nothing of it before a token is shown."""

    name: str
    replies: Mapping[str, Reply] = field(default_factory=dict)
    codes: tuple[int, ...] = (3,)
    says: str = ""
    challenge: str = ""
    options: tuple[str, ...] = ("--dry-run",)

    def answering(self, address: str) -> Answering:
        replies = {**HONEST, "/token": document({"token": "t0ken"}), **self.replies}
        refusal = answer(b"{}", "401 Unauthorized", WWW_Authenticate=self.challenge.replace("@", address))

        def reply(request: Request) -> Reply:
            path = re.sub(r"\?.*", "", request.path)
            admitted = not self.challenge or "authorization" in request.headers or not path.startswith("/v2/app")
            if not admitted:
                return refusal
            return replies.get(path) or document({"errors": [{"code": "UNKNOWN"}]}, "404 Not Found")

        return reply

    @property
    def sends(self) -> bool:
        return "--dry-run" not in self.options


def manifest(name: str, body: bytes, codes: tuple[int, ...] = (3,), **headers: str) -> Case:
    kind = {"Content_Type": PICTURE.manifest_type} | headers
    return Case(f"manifest: {name}", {MANIFEST: answer(body, **kind)}, codes)


def refused(name: str, body: bytes, status: str = "500 Oh", **headers: str) -> Case:
    return Case(f"an error: {name}", {MANIFEST: answer(body, status, **{"Retry_After": "0"} | headers)})


def token(name: str, reply: Reply | bytes, **more: object) -> Case:
    return Case(f"token: {name}", {"/token": reply}, challenge=CHALLENGE, **more)  # type: ignore[arg-type]


def layer(name: str, reply: Reply) -> Case:
    return Case(f"layer: {name}", {LAYER: reply}, options=())


def challenged(name: str, challenge: str, codes: tuple[int, ...] = (3,)) -> Case:
    return Case(f"challenge: {name}", {}, codes, challenge=challenge)


def bent(layout: str) -> Case:
    """A case of a layout, told by a registry: the parser is the same, the door another."""
    case = next(case for case in LAYOUTS if case.name == layout)
    draft = Draft()
    case.bend(draft)
    index, blobs = draft.documents()
    replies: dict[str, Reply] = {}
    for digest, data in blobs.items():
        kind = PICTURE.manifest_type if b'"config"' in data[:400] else "application/vnd.oci.image.index.v1+json"
        replies |= {
            f"/v2/app/blobs/{digest}": answer(data),
            f"/v2/app/manifests/{digest}": answer(data, Content_Type=kind),
        }
    index_type = "application/vnd.oci.image.index.v1+json"
    return Case(f"as a layout, {layout}", {**replies, MANIFEST: answer(index, Content_Type=index_type)}, case.codes)


#: Registries that ask for each tag once more where an answer breaks, with a pause: those take a few seconds.
PATIENT = frozenset(("short-body", "nothing", "bad-chunk", "digits-length", "negative-length"))

SHAPES = (
    *(manifest(name, body) for name, body in NO_OBJECTS.items() if name not in {"true", "utf-16", "string", "null"}),
    manifest("of a painted type", PICTURE.manifest, (0, 3), Content_Type=LINE_PAINT),
    manifest("of a long type", PICTURE.manifest, (0, 3), Content_Type="x" * 60_000),
    manifest("of a painted type in it", dumps({"mediaType": PAINT})),
    manifest("of a type that is a list", dumps({"mediaType": ["x"]})),
    manifest("of 5 MiB", b" " * (5 << 20) + b"{}"),
    *map(bent, ("manifest.layers: number", "manifest.config.size: true", "config: deep", "config.os: painted",
                "config.rootfs.diff_ids: speech", "an index, 400 wide, 3 deep", "an index of itself",
                "several: painted platforms")),
)  # fmt: skip

ERRORS = (
    refused("painted", dumps({"errors": [{"code": PAINT, "message": PAINT}]})),
    refused("painted, and it is not there", dumps({"errors": [{"code": "X", "message": PAINT}]}), "404 Not Found"),
    refused("long", dumps({"errors": [{"code": LONG, "message": LONG}]})),
    refused("a surrogate", dumps({"errors": [{"code": "A", "message": SURROGATE}]}), "405 No"),
    refused("deep", dumps({"errors": DEEP}), "405 No"),
    refused("digits", dumps({"errors": [{"code": DIGITS}]}), "405 No"),
    *(refused(f"errors {name}", dumps({"errors": value}), "405 No") for name, value in NO_LISTS.items()),
    refused("a list", b"[1]", "405 No"),
    refused("no JSON", PAINT.encode(), "405 No"),
    refused("an unknown status", b"", "999 \x1b[31m"),
    refused("a pause of digits", b"", "429 Slow", Retry_After="9" * 5000 + "x"),
    refused("a painted pause", b"", "429 Slow", Retry_After=LINE_PAINT),
    refused("a redirect to nowhere", b"", "307 Moved", Location="http://["),
    refused("a painted redirect", b"", "307 Moved", Location=f"http://{LINE_PAINT}/"),
    refused("a redirect to a file", b"", "307 Moved", Location="file:///etc/passwd"),
    refused("a redirect to itself", b"", "307 Moved", Location=MANIFEST),
    refused("a long redirect", b"", "307 Moved", Location="/" + "x" * 60_000),
    Case("an error: endless", {MANIFEST: endless_error}),
)

TRANSPORT = (
    *(Case(f"manifest: {name}", {MANIFEST: reply}) for name, reply in BROKEN_ANSWERS.items() if name not in PATIENT),
    *(Case(f"/v2/: {name}", {"/v2/": BROKEN_ANSWERS[name]}, (0, 3))
      for name in ("endless", "gzip-bomb", "endless-header", "endless-continue", "painted-status")),
    *(Case(f"config: {name}", {CONFIG: BROKEN_ANSWERS[name]}) for name in ("endless", "gzip-bomb", "endless-chunks")),
    layer("endless", endless),
    layer("endless-chunks", BROKEN_ANSWERS["endless-chunks"]),
    layer("of other bytes", answer(b"x" * len(PICTURE.layers[0]))),
    layer("too long", answer(b"x" * 9999)),
    layer("painted", answer(dumps({"errors": [{"message": PAINT}]}), "403 No")),
    layer("elsewhere", answer(b"", "307 Moved", Location="http://[")),
    layer("a part that nobody asked for", answer(PICTURE.layers[0][5:], "206 Partial")),
    *(Case(f"manifest: {name}", {MANIFEST: reply}, (4,), options=("--dry-run", "--timeout", "2"))
      for name, reply in SLOW_ANSWERS.items()),
    Case("/v2/: silence", {"/v2/": SLOW_ANSWERS["silence"]}, (4,), options=("--timeout", "2")),
)  # fmt: skip

TOKENS = (
    *(token(name, answer(body)) for name, body in NO_OBJECTS.items()
      if name not in {"true", "utf-16", "null", "painted"}),
    *(token(f"it is {name}", document({"token": value})) for name, value in NO_STRINGS.items()),
    token("none", document({})),
    token("it is empty", document({"token": ""})),
    token("with a header in it", document({"token": "x\r\nX-Evil: 1"})),
    token("a NUL", document({"token": "x\0y"})),
    token("a surrogate", document({"token": SURROGATE})),
    token("of a letter beyond", document({"token": "\u20ac"})),
    token("long", document({"token": LONG})),
    token("an error", document({"errors": [{"message": PAINT}]}, "403 No")),
    *(token(name, BROKEN_ANSWERS[name]) for name in ("endless", "gzip-bomb", "endless-chunks", "endless-header",
                                                      "endless-headers", "endless-continue", "garbage", "nothing")),
    token("silence", SLOW_ANSWERS["silence"], codes=(4,), options=("--timeout", "2")),
    token("drip", SLOW_ANSWERS["drip"], codes=(4,), options=("--timeout", "2")),
    token("a redirect to nowhere", answer(b"", "307 Moved", Location="http://[")),
    token("a redirect to itself", answer(b"", "307 Moved", Location="/token")),
    challenged("for a pattern to chew on", "Bearer " + "a" * 60_000),
    challenged("quotes to chew on", 'Bearer realm="' + "\\" * 60_000),
    challenged("commas to chew on", "Bearer " + "a=," * 20_000),
    challenged("painted", LINE_PAINT),
    challenged("a painted realm", f'Bearer realm="{LINE_PAINT}"'),
    challenged("a painted scheme", f'{LINE_PAINT} realm="x"'),
    challenged("a realm that is a file", 'Bearer realm="file:///etc/passwd"'),
    challenged("a realm that is nowhere", 'Bearer realm="http://["'),
    challenged("a realm with no host", 'Bearer realm="http://"'),
    challenged("a realm of 60 kB", f'Bearer realm="http://@/{"x" * 60_000}"'),
    challenged("a realm that never is", 'Bearer realm="http://127.0.0.1:1/"'),
    challenged("no realm", "Bearer"),
    challenged("a painted scope", f'Bearer realm="http://@/token",scope="{LINE_PAINT}"', (0, 3)),
    challenged("another scheme", 'Negotiate realm="x"'),
)  # fmt: skip

CASES = (*SHAPES, *ERRORS, *TRANSPORT, *TOKENS)
