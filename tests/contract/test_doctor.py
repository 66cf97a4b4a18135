"""`layerferry doctor` with a stand-in for the engine's API and for ssh: what it shows, and that it sends nothing."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.test_run import ENVIRONMENTS, IMAGE_ID, TOKEN, Stage, key, stage
from fake_registry import fake_registry

__all__ = ["key", "stage"]


def found(document: dict[str, Any], what: str) -> dict[str, Any]:
    (only,) = (item for item in document["findings"] if item["what"] == what)
    return dict(only)


@contextlib.contextmanager
def registry(status: int = 200) -> Iterator[int]:
    """Something that answers as a registry's base endpoint does; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_it_says_where_all_is_what_reaches_what_and_why(stage: Stage) -> None:
    del stage.env["LAYERFERRY_NGROK_AUTHTOKEN"]
    ran = stage.as_on("github-vm").run("doctor", "deploy@web.example")
    text = ran.out
    assert "· CI:" in text
    assert "GitHub Actions  (GITHUB_ACTIONS is set)" in text
    assert "unix socket: unix://" in text
    assert "✓ daemon answers:      docker 28.5.2 (overlay2), linux" in text
    assert "✗ daemon reaches us:   127.0.0.1:" in text
    assert "connection refused" in text
    assert "✓ target deploy@web.example: docker 28.5.2 (overlay2), linux/amd64" in text
    assert "→ route: export, because the daemon reaches no registry of this job" in text
    assert "LAYERFERRY_NGROK_AUTHTOKEN" in text


def test_it_asks_and_changes_nothing(stage: Stage) -> None:
    stage.run("doctor", "deploy@web.example")
    kinds = {path.removeprefix("/v1.43").split("/")[1] for path in stage.paths}
    assert kinds == {"version", "info", "distribution"}


def test_its_json_is_one_object_with_times_and_reasons(stage: Stage) -> None:
    (stage.folder / "bin" / "ngrok").symlink_to(Path(__file__).parents[1] / "rig" / "ngrok")
    document = json.loads(stage.run("doctor", "--json", "deploy@web.example").out)
    assert set(document) == {"findings", "route", "advice"}
    assert document["route"]["name"] == "ngrok"
    assert found(document, "daemon answers")["good"] is True
    assert found(document, "target deploy@web.example")["seconds"] > 0
    tries = [item for item in document["findings"] if item["what"] == "daemon reaches us"]
    assert tries[0]["value"].startswith("127.0.0.1:")
    assert not any(item["good"] for item in tries)
    assert all(item["reason"] and item["seconds"] is not None for item in tries)


def test_a_token_without_an_agent_is_told(stage: Stage) -> None:
    stage.env["PATH"] = f"{stage.folder / 'bin'}:/usr/bin:/bin"
    document = json.loads(stage.run("doctor", "--json").out)
    assert found(document, "ngrok")["value"] == "agent not found"
    assert any("LAYERFERRY_NGROK_INSTALL" in advice for advice in document["advice"])
    assert document["route"]["name"] == "export"
    document = json.loads(stage.run("doctor", "--json", LAYERFERRY_NGROK_INSTALL="true").out)
    assert document["route"]["name"] == "ngrok"


def test_an_agent_that_cannot_be_run_is_not_blamed_on_the_daemon(stage: Stage) -> None:
    agent = str(stage.folder / "missing")
    document = json.loads(stage.run("doctor", "--json", NGROK_PATH=agent, code=7).out)
    assert found(document, "daemon answers")["good"] is True
    assert found(document, "ngrok")["good"] is False
    assert f"NGROK_PATH={agent}" in found(document, "ngrok")["value"]
    assert document["route"]["name"] == "export"


@pytest.mark.parametrize("variable", ["LOCAL_DOCKER_REGISTRY_PORT", "LAYERFERRY_LOCAL_DOCKER_REGISTRY_PORT"])
@pytest.mark.parametrize(("status", "good"), [(200, True), (404, False)])
def test_a_registry_service_is_probed(stage: Stage, status: int, good: bool, variable: str) -> None:
    with registry(status) as port:
        stage.env[variable] = str(port)
        document = json.loads(stage.run("doctor", "--json").out)
    service = found(document, "registry service")
    assert service["good"] is good
    assert service["value"].startswith(f"127.0.0.1:{port} ")
    assert service["reason"] == f"LOCAL_DOCKER_REGISTRY_PORT={port}"


def asked_about(document: dict[str, Any]) -> list[str]:
    """What the daemon was asked about, in order."""
    asked = [item["what"] for item in document["findings"] if item["what"].startswith("daemon reaches")]
    return [what for at, what in enumerate(asked) if asked[at - 1 : at] != [what]]


def test_a_service_that_a_push_would_not_ask_is_left_alone(stage: Stage) -> None:
    """The daemon's store is a classic one."""
    del stage.env["LAYERFERRY_NGROK_AUTHTOKEN"]
    with fake_registry() as service:
        document = json.loads(stage.run("doctor", "--json", LAYERFERRY_REGISTRY=service.address).out)
    assert asked_about(document) == ["daemon reaches us"]
    assert document["route"]["name"] == "export"
    assert document["route"]["reason"] == (
        "the daemon reaches no registry of ours, and a registry service would get all of it: "
        "reading 100.0 MB takes about 1.1 s, a push 8.5 s"
    )
    assert {path for _, path, _ in service.seen} == {"/v2/"}


def test_a_service_that_was_asked_for_is_looked_for_first_as_in_a_push(stage: Stage) -> None:
    route = {"LAYERFERRY_ROUTE": "registry"}
    with fake_registry() as service:
        document = json.loads(stage.run("doctor", "--json", LAYERFERRY_REGISTRY=service.address, code=7, **route).out)
        assert not service.tags
    assert asked_about(document) == ["daemon reaches service", "daemon reaches us"]
    assert document["route"] == {
        "name": "registry",
        "reason": "LAYERFERRY_ROUTE says so, and a push fails: "
        "the route registry cannot be taken: the daemon reaches no registry of this job",
    }
    assert not any("layerferry doctor" in advice for advice in document["advice"])


def test_a_service_that_takes_nothing_is_told_with_what_to_do(stage: Stage) -> None:
    route = {"LAYERFERRY_ROUTE": "registry"}
    with fake_registry(refuses="POST") as service:
        document = json.loads(stage.run("doctor", "--json", LAYERFERRY_REGISTRY=service.address, code=7, **route).out)
    assert "nothing proves that the daemon reaches the job's registry service" in document["route"]["reason"]
    assert "It has to take images without a login, as registry:2 does." in document["advice"]


@pytest.mark.parametrize("lacks", ["token", "agent"])
def test_a_tunnel_that_was_asked_for_and_cannot_be_opened_is_told(stage: Stage, lacks: str) -> None:
    stage.env["PATH"] = f"{stage.folder / 'bin'}:/usr/bin:/bin"
    if lacks == "token":
        del stage.env["LAYERFERRY_NGROK_AUTHTOKEN"]
    document = json.loads(stage.run("doctor", "--json", LAYERFERRY_ROUTE="ngrok", code=7).out)
    assert document["route"]["name"] == "ngrok"
    why = {"token": "the route ngrok has no token", "agent": "ngrok's agent is not installed here"}[lacks]
    assert document["route"]["reason"] == f"LAYERFERRY_ROUTE says so, and a push fails: {why}"
    (advice,) = document["advice"]
    assert {"token": "LAYERFERRY_NGROK_AUTHTOKEN", "agent": "LAYERFERRY_NGROK_INSTALL"}[lacks] in advice


def test_a_daemon_that_is_not_there_is_a_finding(stage: Stage) -> None:
    address = f"unix://{stage.folder}/missing.sock"
    document = json.loads(stage.run("doctor", "--json", DOCKER_HOST=address, code=3).out)
    finding = found(document, "daemon answers")
    assert finding["good"] is False
    assert address in finding["value"]
    assert any("DOCKER_HOST" in advice for advice in document["advice"])
    assert found(document, "CI")["value"] == "no CI"


def test_a_target_that_refuses_is_a_finding_with_advice(stage: Stage) -> None:
    document = json.loads(stage.run("doctor", "--json", "deploy@web.example", FAKE_SSH="refuse", code=4).out)
    finding = found(document, "target deploy@web.example")
    assert finding["good"] is False
    assert "refused our authentication" in finding["value"]
    assert found(document, "daemon answers")["good"] is True
    assert any("Check the user name and the key" in advice for advice in document["advice"])


def test_key_and_known_hosts_of_the_environment_serve_it_too(stage: Stage) -> None:
    stage.run("doctor", "deploy@web.example")
    ((_, options, files),) = stage.ssh()
    assert options["StrictHostKeyChecking"] == "yes"
    assert files["IdentityFile"][1] == 0o600
    assert not Path(files["IdentityFile"][0]).exists()


def test_a_route_that_was_asked_for_is_the_route(stage: Stage) -> None:
    document = json.loads(stage.run("doctor", "--json", LAYERFERRY_ROUTE="export").out)
    assert document["route"]["name"] == "export"
    assert "LAYERFERRY_ROUTE" in document["route"]["reason"]


@pytest.mark.parametrize("name", ["circleci-classic", "gitlab-dind-tls", "azure-vm", "forgejo-dind", "none-laptop"])
def test_it_shows_no_secret_and_speaks_to_no_ci(stage: Stage, name: str) -> None:
    """Its output is for people: it has no commands, and nothing that would have to be masked."""
    assert name in ENVIRONMENTS
    ran = stage.as_on(name).run("doctor", DOCKER_REGISTRY_NGROK=TOKEN)
    said = ran.out + ran.err
    for secret in (TOKEN, *(line for line in stage.env["LAYERFERRY_SSH_KEY"].splitlines() if line)):
        assert secret not in said
    assert IMAGE_ID not in said
    assert not [line for line in ran.lines if line.startswith(("::", "##"))]
