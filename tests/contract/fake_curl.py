"""A curl that plays docker's API out of $FAKE, as fake_engine.sh plays its command; it notes calls in its words."""

import functools
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

FAKE = Path(os.environ["FAKE"])
SERVER = "http://docker"


def read(name: str) -> str:
    path = FAKE / name
    return path.read_text() if path.exists() else ""


def note(call: str) -> None:
    with (FAKE / "calls").open("a") as file:
        file.write(f"{call}\n")


def failure(verb: str) -> str | None:
    """What the daemon says where `verb` is to fail."""
    return None if read(f"status.{verb}") in {"", "0"} else read(f"stderr.{verb}").rstrip("\n")


def info() -> dict[str, object]:
    version, platform, driver, *status = read("info").split()
    os_type, architecture = platform.split("/")
    rows = [["driver-type", word] for word in status]
    labels = ['"ServerVersion":"1"', "Driver=x"]
    return {
        "ID": "x", "Images": 2, "Driver": driver, "DriverStatus": rows, "Plugins": {"Volume": ["local"]},
        "OperatingSystem": "Debian", "OSType": os_type, "Architecture": architecture, "Labels": labels,
        "ServerVersion": version,
    }  # fmt: skip


@functools.cache
def rows() -> dict[str, list[str]]:
    """What is held, by image ID: the ID and its layers. There may be thousands, and each may be asked for."""
    return {row[0]: row for line in read("list").splitlines() if (row := line.split())}


@functools.cache
def tags() -> dict[str, list[str]]:
    """Every image that is listed, with its names."""
    names: dict[str, list[str]] = {}
    for line in read("ls").splitlines():
        image, name = line.split()
        names.setdefault(image, []).extend([] if name == "<none>:<none>" else [name])
    return names


#: Whoever has built an image says what it has.
LABELS = {
    "A": "[{",
    "Id": f"sha256:{'e' * 64}",
    "Containers": f'{{"Id":"sha256:{"e" * 64}"',
    "RepoTags": "no",
    "Type": "layers",
    "text": 'a "Id":"sha256:1" {b}',
    "z{": "{",
}


def images() -> list[dict[str, object]]:
    return [
        {
            "Containers": -1,
            "Created": 9,
            "Id": image,
            "Labels": LABELS,
            "RepoDigests": [],
            **({"RepoTags": names} if names else {}),
        }
        for image, names in tags().items()
    ]


def image_of(name: str) -> str:
    """What a name was given to, or the ID that is listed for it."""
    if name.startswith("sha256:"):
        return name
    given = dict(line.split() for line in read("named").splitlines())
    short = name.removeprefix("docker.io/").removeprefix("library/")
    listed = {tag: image for image, tag in (line.split() for line in read("ls").splitlines())}
    return given.get(name) or listed.get(short) or listed.get(name) or name


def inspected(name: str) -> dict[str, object] | None:
    name = image_of(name)
    row = read("show." + name.translate(str.maketrans("/:", "__"))).split()
    if not row:
        row = rows().get(name, [])
    if not row:
        return None
    layers = {"Layers": row[1:]} if row[1:] else {}
    config = {"Env": ['a="Layers":["x"]'], "Labels": LABELS}
    return {
        "Id": row[0],
        "RepoTags": tags().get(row[0], []),
        "Config": config,
        "RootFS": {"Type": "layers", **layers},
        "Metadata": {},
    }


def answer(method: str, url: str) -> tuple[int, object]:  # noqa: PLR0911 - one for each path
    """The status and the body."""
    parts = urlsplit(url)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    match method, parts.path:
        case "GET", "/info":
            note("info --format")
            return (500, None) if failure("info") is not None else (200, info())
        case "GET", "/version":
            own = {"Arch": read("arch")} if read("arch") else {}
            details = {"Arch": "wrong", "Os": "linux"}
            components = [{"Name": "Engine", "Details": details}]
            return 200, {"Platform": {"Name": "Docker"}, "Os": "linux", **own, "Components": components if own else []}
        case "GET", "/images/json" if "filters" in query:
            wanted = json.loads(query["filters"])["reference"]
            return 200, [row for row in images() if any(tag.startswith(wanted[0]) for tag in row.get("RepoTags", []))]  # type: ignore[attr-defined]
        case "GET", "/images/json":
            note("image ls")
            return 200, images()
        case "GET", path if match := re.fullmatch("/images/(.+)/json", path):
            found = None if failure("inspect") is not None else inspected(match[1])
            return (404, {"message": "No such image"}) if found is None else (200, found)
        case "POST", path if match := re.fullmatch("/images/(.+)/tag", path):
            note(f"tag {match[1]} {query['repo']}:{query['tag']}")
            with (FAKE / "named").open("a") as file:
                file.write(f"{query['repo']}:{query['tag']} {match[1]}\n")
            said = failure("tag")
            return (201, None) if said is None else (400, {"message": said})
        case "POST", path if match := re.fullmatch("/images/(.+)/push", path):
            note(f"push {match[1]}:{query['tag']}")
            said = failure("push")
            return 200, {"status": "ok"} if said is None else {"errorDetail": {"message": said}, "error": said}
        case "POST", "/images/load":
            note("load")
            (FAKE / "loaded").write_bytes(sys.stdin.buffer.read())
            said = failure("load")
            return 200, {"stream": "Loaded"} if said is None else {"errorDetail": {"message": said}, "error": said}
        case "DELETE", path:
            note(f"image rm {path.removeprefix('/images/')}")
            return 200, [{"Untagged": "x"}]
    return 404, {"message": "page not found"}


def urls(words: list[str]) -> Iterator[str]:
    if "-X" in words and "-K" in words:
        (FAKE / "login").write_text(sys.stdin.read())
        yield words[-1]
    elif "-K" in words:
        note("image inspect")
        yield from re.findall('^url = "(.*)"$', sys.stdin.read(), re.MULTILINE)
    else:
        yield from (word for word in words if word.startswith(SERVER))


def main(words: list[str]) -> int:
    assert words[:4] == ["-qgsS", "--noproxy", "*", "--unix-socket"], words
    assert Path(words[4]).exists()
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    status = 0
    for url in urls(words):
        assert url.startswith(SERVER), url
        code, body = answer(method, url.removeprefix(SERVER))
        if code >= 400 and "-f" in words:
            status = 22
        elif body is not None:
            print(json.dumps(body, separators=(",", ":")))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
