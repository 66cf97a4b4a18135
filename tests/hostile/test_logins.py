"""docker's configuration, its contexts and credential helpers: whoever wrote them, they are bounded and told of."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hostile import daemon, registries
from hostile.claims import one_sentence, only_asked
from hostile.command import Command, Outcome
from hostile.conduits import honest
from hostile.serving import Playing, serving
from hostile.words import DEEP, DIGITS, LINE_PAINT, NO_OBJECTS, PAINT, dumps


def _config(where: str, **values: object) -> dict[str, bytes]:
    """Configurations by name, each with another value `where`, keys with a dot between; `@` is the registry."""
    configs = {}
    for name, value in values.items():
        document = value
        for key in reversed(where.split(".")):
            document = {key: document}
        configs[f"{where} {name.replace('_', ' ')}"] = dumps(document)
    return configs


CONFIGS: Mapping[str, bytes] = {
    **{name: body for name, body in NO_OBJECTS.items() if name not in {"true", "utf-16", "null", "painted", "empty"}},
    **_config("auths", a_list=["@"], a_string="@", a_number=5, deep=DEEP),
    **_config("auths.@", a_list=[], a_string="x", a_number=5),
    **_config("auths.@.auth", a_number=5, a_list=[1], no_base64="%%%", painted=PAINT, colonless="YQ==", digits=DIGITS),
    **_config("auths.@", of_objects={"username": {"a": 1}, "password": ["x"]}),
    **_config("auths.@", a_token_with_a_line_feed={"registrytoken": "x\r\nX-Evil: 1"}),
    **_config("auths.@", a_password_beyond_letters={"username": "\udc80", "password": "\u20ac\n"}),
    **_config("credHelpers", a_list=["@"], a_string="@", a_number=5),
    **_config(
        "credHelpers.@", a_list=["x"], a_number=5, a_path="../../bin/sh", painted=PAINT, a_NUL="a\0b", option="-x"
    ),
    **_config("credsStore", a_list=["x"], painted=LINE_PAINT),
    **_config("HttpHeaders", a_list=[1]),
    **_config("proxies", a_string="x"),
}
FILES: Mapping[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a FIFO": os.mkfifo,
    "1 GiB": lambda path: (path.touch(), os.truncate(path, 1 << 30)),  # type: ignore[func-returns-value]
}
#: What a credential helper does, as a script of sh.
HELPERS: Mapping[str, str] = {
    "nothing": "exit 0",
    "a status": f"printf '{LINE_PAINT}' >&2; exit 1".replace("\x1b", "\\033"),
    "a list": "echo '[]'",
    "a number": "echo 5",
    "no JSON": "printf '\\033]0;x\\007'",
    "deep": "head -c 100000 /dev/zero | tr '\\0' '['",
    "digits": "printf '{\"Secret\": '; head -c 5000 /dev/zero | tr '\\0' 9; echo '}'",
    "a secret that is a list": 'echo \'{"Username": "a", "Secret": ["x"]}\'',
    "a secret with a line feed": 'echo \'{"Username": "a", "Secret": "x\\r\\nX-Evil: 1"}\'',
    "endless": "exec cat /dev/zero",
    "endless on stderr": "exec cat /dev/zero >&2",
}
CONTEXTS: Mapping[str, bytes] = {
    **{name: body for name, body in NO_OBJECTS.items() if name in {"list", "string", "deep", "digits", "not-json"}},
    "Endpoints a list": dumps({"Name": "x", "Endpoints": ["docker"]}),
    "docker a string": dumps({"Name": "x", "Endpoints": {"docker": "unix:///x"}}),
    "Host a number": dumps({"Name": "x", "Endpoints": {"docker": {"Host": 5}}}),
    "Host painted": dumps({"Name": "x", "Endpoints": {"docker": {"Host": PAINT}}}),
    "Host an option": dumps({"Name": "x", "Endpoints": {"docker": {"Host": "ssh://-oProxyCommand=x"}}}),
}


def _some(names: Iterable[str], most: int) -> list[Any]:
    """All names as parameters; those after the first `most` belong to the long suite."""
    return [pytest.param(name, marks=[pytest.mark.slow] if number >= most else []) for number, name in enumerate(names)]


@pytest.fixture(scope="module")
def playing() -> Iterator[Playing]:
    with serving() as server:
        server.play(registries.Case("closed", challenge=registries.CHALLENGE).answering(server.address))
        yield server


def folder(layerferry: Command) -> Path:
    path = layerferry.home / ".docker"
    path.mkdir()
    return path


def push(layerferry: Command, playing: Playing, record: Path, *options: str, **env: str) -> Outcome:
    """From a registry that asks for a token, which its service gives to everybody."""
    words = ("push", f"registry:{playing.address}/app:1", "--name", "app:1", "--dry-run", *options)
    return layerferry(*words, "--", *honest(record), env=env)


@pytest.mark.parametrize("name", _some(CONFIGS, 12))
def test_a_hostile_configuration_is_told_of(name: str, playing: Playing, layerferry: Command, tmp_path: Path) -> None:
    config = CONFIGS[name].replace(b'"@"', json.dumps(playing.address).encode())
    (folder(layerferry) / "config.json").write_bytes(config)
    one_sentence(push(layerferry, playing, tmp_path / "heard"), (0, 3))
    only_asked(tmp_path / "heard")


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_that_is_no_file_is_told_of(
    name: str, playing: Playing, layerferry: Command, tmp_path: Path
) -> None:
    FILES[name](folder(layerferry) / "config.json")
    one_sentence(push(layerferry, playing, tmp_path / "heard"), (0, 3))


@pytest.mark.parametrize("name", _some(HELPERS, 6))
def test_a_hostile_helper_is_told_of(name: str, playing: Playing, layerferry: Command, tmp_path: Path) -> None:
    _help(layerferry, playing, HELPERS[name], tmp_path)
    run = push(layerferry, playing, tmp_path / "heard", PATH=f"{tmp_path}:/usr/local/bin:/usr/bin:/bin")
    one_sentence(run, (0, 3))
    only_asked(tmp_path / "heard")


def test_a_helper_that_never_ends(playing: Playing, layerferry: Command, tmp_path: Path) -> None:
    _help(layerferry, playing, "exec sleep 300", tmp_path)
    path = f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"
    one_sentence(push(layerferry, playing, tmp_path / "heard", "--timeout", "2", PATH=path), (4,))


def _help(layerferry: Command, playing: Playing, script: str, bin_folder: Path) -> None:
    (folder(layerferry) / "config.json").write_text(json.dumps({"credHelpers": {playing.address: "evil"}}))
    helper = bin_folder / "docker-credential-evil"
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)


@pytest.mark.parametrize("name", _some(CONTEXTS, 3))
def test_a_hostile_context_is_told_of(name: str, layerferry: Command, tmp_path: Path) -> None:
    place = folder(layerferry)
    (place / "config.json").write_text(json.dumps({"currentContext": "x"}))
    meta = place / "contexts" / "meta" / hashlib.sha256(b"x").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_bytes(CONTEXTS[name])
    run = layerferry("push", "app:1", "--dry-run", "--route", "export", "--", *honest(tmp_path / "heard"))
    one_sentence(run, (2, 3))


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_it_keeps_us_from_an_answer(name: str, layerferry: Command, tmp_path: Path) -> None:
    """The SDK would read it whole, and wait for a pipe."""
    FILES[name](folder(layerferry) / "config.json")
    with tempfile.TemporaryDirectory(prefix="lf-") as place, serving(Path(place) / "s") as server:
        server.play(daemon.Case("honest", {}).answering())
        words = ("push", "app:1", "--dry-run", "--route", "export", "--", *honest(tmp_path / "heard"))
        one_sentence(layerferry(*words, env={"DOCKER_HOST": server.address}), (0, 3))


AWAY = ("list", "deep", "digits", "auths a list", "auths.@.auth painted", "HttpHeaders a list", "credsStore a list")


@pytest.mark.parametrize("name", _some(AWAY, 2))
def test_nor_does_it_keep_a_daemon_away(name: str, layerferry: Command, tmp_path: Path) -> None:
    (folder(layerferry) / "config.json").write_bytes(CONFIGS[name])
    with tempfile.TemporaryDirectory(prefix="lf-") as place, serving(Path(place) / "s") as server:
        server.play(daemon.Case("honest", {}).answering())
        words = ("push", "app:1", "--dry-run", "--route", "export", "--", *honest(tmp_path / "heard"))
        one_sentence(layerferry(*words, env={"DOCKER_HOST": server.address}), (0, 3))
