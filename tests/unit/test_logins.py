"""Where a user's login for a registry is found. Credential helpers are asked in tests/contract/test_remote.py."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from layerferry.registry_client.logins import Login, find_login


def coded(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def find(folder: Path, auths: dict[str, Any], registry: str, repository: str = "team/app") -> Login | None:
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    return find_login(registry, repository, {"DOCKER_CONFIG": str(folder), "HOME": str(folder)})[0]


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v1/", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("host:5000", "host:5000"),
    ],
)
def test_a_host_is_written_in_many_ways(tmp_path: Path, key: str, registry: str) -> None:
    assert find(tmp_path, {"other": coded("x", "y"), key: coded("me", "it:is")}, registry) == Login("me", "it:is")


def test_the_longest_prefix_goes(tmp_path: Path) -> None:
    auths = {"quay.io": coded("all", "1"), "quay.io/team": coded("team", "2"), "quay.io/te": coded("no", "3")}
    assert find(tmp_path, auths, "quay.io") == Login("team", "2")
    assert find(tmp_path, auths, "quay.io", "other/app") == Login("all", "1")


def test_tokens_are_logins_too(tmp_path: Path) -> None:
    auths = {"a.io": {"identitytoken": "i"}, "b.io": {"registrytoken": "r"}, "c.io": {"auth": ""}, "d.io": {}}
    assert find(tmp_path, auths, "a.io") == Login(identity_token="i")
    assert find(tmp_path, auths, "b.io") == Login(bearer="r")
    assert find(tmp_path, auths, "c.io") is None
    assert find(tmp_path, auths, "d.io") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"auths": []}', '{"auths": {"a.io": 1}}', '{"auths": {"a.io": {"auth": "%"}}}']
)
def test_a_damaged_configuration_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    login, reason = find_login("a.io", "app", {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
    assert (login, reason) == (None, "no login for a.io was found")


def test_the_places_have_an_order(tmp_path: Path) -> None:
    def write(name: str, user: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {"a.io": coded(user, "p")}}))
        return str(path)

    environ = {"HOME": str(tmp_path)}
    expected = ["podman", "docker", "file", "variable"]
    environ["XDG_RUNTIME_DIR"] = str(Path(write("run/containers/auth.json", "podman")).parents[1])
    found = [find_login("a.io", "app", environ)]
    write(".docker/config.json", "docker")
    found.append(find_login("a.io", "app", environ))
    environ["REGISTRY_AUTH_FILE"] = write("auth.json", "file")
    found.append(find_login("a.io", "app", environ))
    environ["DOCKER_AUTH_CONFIG"] = json.dumps({"auths": {"a.io": coded("variable", "p")}})
    found.append(find_login("a.io", "app", environ))
    assert [login.user for login, _ in found if login] == expected
    assert found[-1][1] == "DOCKER_AUTH_CONFIG"


@pytest.mark.parametrize("name", ["../../bin/sh", "/bin/sh", "-x", "a b", ""])
def test_a_helper_is_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": name}))
    environ = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path), "PATH": "/bin"}
    assert find_login("a.io", "app", environ)[0] is None


def test_no_login_shows_its_secret() -> None:
    login = Login("anna", "sesame", "identity", "bearer")
    assert not any(secret in repr(login) for secret in ("anna", "sesame", "identity=", "'bearer'"))
