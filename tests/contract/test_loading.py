"""What a plain push loads: each module costs the start of every push some of its time."""

import base64
import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from hostile import daemon
from hostile.command import HERE
from hostile.serving import Answering, Playing, Reply, Request, answer, serving
from layerferry.oci.image import MEDIA_TYPE_CONFIG, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_MANIFEST, digest_of
from packed import Picture

#: Modules of ours, packages included; three of them are the command line's, five (some 3 ms) those of a progress that
#: is true, and of layers: push.progress, and activity, rate, steps and widths of the report.
#: The conversation has three, a daemon's export one, its end two, and the names that words may have in a project's file
#: three.
MOST = 109
#: What other pushes, and other commands, are made of.
NEEDLESS = (
    "layerferry.ci.dialects",
    "layerferry.ci.output",
    "layerferry.ci.probes",
    "layerferry.ci.ssh_",
    "layerferry.ci.summary",
    "layerferry.ci_run",
    "layerferry.doctor",
    "layerferry.push.to_registry",
    "layerferry.receive",
    "layerferry.registry_client.endpoint",
    "layerferry.registry_client.http_session",
    "layerferry.registry_client.logins",
    "layerferry.registry_client.pusher",
    "layerferry.registry_client.repository",
    "layerferry.report.terminal",
    "layerferry.routes.ngrok.",
    "layerferry.routes.service_proof",
    "layerferry.routes.service_registry",
    "layerferry.sources.registry",
    "pyngrok",
    "rich.",
)
PICTURE: Picture = daemon.PICTURE


def pushing() -> Answering:
    """An honest daemon that reaches our registry, and pushes the image there as a classic store does."""
    others = daemon.Case("pushes", {}, reaches=True).answering()

    def reply(request: Request) -> Reply:
        match = re.fullmatch(
            r"(?:/v[0-9.]+)?/images/(127\.0\.0\.1:\d+)/(.+)/push\?(?:.*&)?tag=([^&]+).*", unquote(request.path)
        )
        if match is None:
            return others(request)
        return _push(match[1], match[2], match[3], request.headers["x-registry-auth"])

    return reply


def _push(place: str, name: str, tag: str, login: str) -> bytes:
    known = json.loads(base64.urlsafe_b64decode(login))
    basic = base64.b64encode(f"{known['username']}:{known['password']}".encode()).decode()
    connection = http.client.HTTPConnection(place, timeout=5)

    def ask(method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        connection.request(method, path, body, {"Authorization": f"Basic {basic}", **headers})
        response = connection.getresponse()
        response.read()
        return response

    for blob in (*PICTURE.layers, PICTURE.config):
        digest = digest_of(blob)
        if ask("HEAD", f"/v2/{name}/blobs/{digest}").status == 404:
            begun = ask("POST", f"/v2/{name}/blobs/uploads/")
            assert ask("PUT", f"{begun.headers['Location']}?digest={digest}", blob).status == 201
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_MANIFEST,
        "config": _descriptor(MEDIA_TYPE_CONFIG, PICTURE.config),
        "layers": [_descriptor(MEDIA_TYPE_LAYER_GZIP, layer) for layer in PICTURE.layers],
    }
    data = json.dumps(manifest).encode()
    assert ask("PUT", f"/v2/{name}/manifests/{tag}", data, **{"Content-Type": MEDIA_TYPE_MANIFEST}).status == 201
    connection.close()
    pushed = {"aux": {"Tag": tag, "Digest": digest_of(data), "Size": len(data)}}
    return answer(json.dumps(pushed).encode() + b"\n", Content_Type="application/json")


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Playing]:
    with serving(tmp_path / "s") as server:
        server.play(pushing())
        yield server


def loaded(source: Playing, folder: Path, *words: str) -> tuple[set[str], dict[str, object]]:
    """Our modules that a push to an honest host loads, and its result."""
    ssh = folder / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {HERE / "fake_ssh.py"} "$@"\n')
    ssh.chmod(0o755)
    environment = {
        "PATH": f"{ssh.parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "HEARD": str(folder / "heard"),
        "DOCKER_HOST": source.address,
    }
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "layerferry", "push", "app:1", "good", "--json", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    names = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert run.returncode == 0, run.stdout + "\n".join(x for x in run.stderr.splitlines() if "import time" not in x)
    (result,) = json.loads(run.stdout)["results"]
    return names, result


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] == "layerferry"}


@pytest.mark.parametrize(("route", "words"), [("registry", ("--route", "registry")), ("export", ())])
def test_a_plain_push_loads_what_it_needs(source: Playing, tmp_path: Path, route: str, words: tuple[str, ...]) -> None:
    """By the route `registry`, and by the one that `auto` takes for an image that the target lacks altogether."""
    names, result = loaded(source, tmp_path, *words)
    assert result["route"]["name"] == route  # type: ignore[index]
    assert result["verified"]
    assert {name for name in names if name.startswith(NEEDLESS)} == set()
    assert words or "pydantic" not in names, "which takes longer to load than ssh takes to shake hands"
    assert len(ours(names)) <= MOST, "\n".join(sorted(ours(names)))
