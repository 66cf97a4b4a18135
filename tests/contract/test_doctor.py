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
    assert "→ route: export, because the daemon reaches no registry of ours" in text
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
