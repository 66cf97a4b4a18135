"""A registry service of the job: it is reached once the daemon finds there what the job has put there, not before."""

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote

import pytest

from fake_registry import PASSWORD, USER, FakeRegistry, fake_registry
from hostile.serving import Playing, Reply, Request, document, serving
from layerferry.ci.services import Certainty, ServiceContainer
from layerferry.ci.topology import DaemonName
from layerferry.errors import RouteError
from layerferry.oci.image import digest_of
from layerferry.oci.plan import Plan
from layerferry.oci.store_kind import StoreKind
from layerferry.routes.choose import choose
from layerferry.routes.near_registries import NearRegistries
from layerferry.routes.reachability import Attempt, Reachability, ServiceEndpoint
from layerferry.sources.daemon.api import Daemon

#: Names that the daemon has for registries.
PUBLISHED, ALIAS = "127.0.0.1:5000", "registry:5000"
ANOTHER = f"another registry than the job's service answers the daemon at {PUBLISHED}"


class Job:
    """A job with a registry service, and a daemon to which `names` are the registries of these addresses."""

    def __init__(self, service: FakeRegistry, playing: Playing) -> None:
        self.service = service
        self.names: dict[str, str] = {}
        self.environ: dict[str, str] = {"DOCKER_HOST": playing.address}
        self.asked: list[str] = []
        #: What the daemon says, whatever it finds.
        self.daemon_says = b""
        playing.play(self._answer)

    def attempts(self) -> list[Attempt]:
        with closing(Daemon(self.environ)) as daemon, closing(self._reachability(daemon)) as reachability:
            return list(reachability.service_attempts())

    def refusal(self) -> RouteError:
        """What a push ends with that asks for the route `registry`, where none of our own is reached."""
        with closing(Daemon(self.environ)) as daemon, closing(self._reachability(daemon)) as reachability:
            reachability.attempts = lambda: iter(())  # type: ignore[method-assign]
            reached = NearRegistries(reachability, "registry").find(1, StoreKind.BLOB).reached
        with pytest.raises(RouteError) as refused:
            choose("registry", Mock(spec=Plan), StoreKind.BLOB, frozenset(), reached)
        return refused.value

    def _reachability(self, daemon: Daemon) -> Reachability:
        service = ServiceContainer(self.service.address, "a service of the job", Certainty.SET)
        names = tuple(DaemonName(name, "as the daemon has it") for name in self.names)
        topology: Any = SimpleNamespace(services=(service,), daemon_names=lambda _: names)
        return Reachability(daemon, topology, self.environ)

    def _answer(self, request: Request) -> Reply:
        path = unquote(request.path.partition("?")[0])
        match = re.fullmatch(r"/v[0-9.]+/distribution/([^/]+)/(.+):([^:]+)/json", path)
        if match is None:
            return document({"ApiVersion": "1.43"})
        name, repository, tag = match.groups()
        self.asked.append(name)
        return self.daemon_says or _found(self.names[name], repository, tag)


def _found(address: str, repository: str, tag: str) -> bytes:
    """A docker's answer, which asks the registry; it has no login for any."""
    if not address:
        return document({"message": "dial tcp: connect: connection refused"}, "500 Internal Server Error")
    connection = http.client.HTTPConnection(address, timeout=5)
    with closing(connection):
        connection.request("GET", f"/v2/{repository}/manifests/{tag}")
        response = connection.getresponse()
        data = response.read()
    if response.status == 401:
        return document({"message": "no basic auth credentials"}, "500 Internal Server Error")
    if response.status != 200:
        return document({"message": "manifest unknown: manifest unknown"}, "404 Not Found")
    return document({"Descriptor": {"digest": digest_of(data), "size": len(data)}, "Platforms": None})


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    behaviour: Mapping[str, Any] = getattr(request, "param", {})
    with fake_registry(**behaviour) as service, serving(tmp_path / "s") as playing:
        yield Job(service, playing)


@pytest.fixture
def foreign() -> Iterator[FakeRegistry]:
    with fake_registry() as running:
        yield running


def test_the_service_itself_is_reached_by_whichever_name_leads_there(job: Job, foreign: FakeRegistry) -> None:
    job.names = {PUBLISHED: foreign.address, ALIAS: job.service.address, "never:5000": ""}
    another, reached = job.attempts()
    assert (another.trouble, another.endpoint) == (ANOTHER, None)
    assert reached.trouble == reached.hint == ""
    assert isinstance(reached.endpoint, ServiceEndpoint)
    assert (reached.endpoint.address, reached.endpoint.url) == (ALIAS, f"http://{job.service.address}")
    assert job.asked == [PUBLISHED, ALIAS]
    assert not foreign.repositories
    assert not foreign.tags


def test_nothing_of_the_proof_stays_in_a_service_that_deletes(job: Job) -> None:
    job.names = {PUBLISHED: job.service.address}
    assert job.attempts()[0].endpoint
    assert not job.service.tags
    assert not any(job.service.repositories.values())


def test_a_registry_that_only_answers_is_not_the_service(job: Job, foreign: FakeRegistry) -> None:
    job.names = {PUBLISHED: foreign.address}
    refused = job.refusal()
    assert refused.message == f"the route registry cannot be taken: {ANOTHER}"
    assert "name it: LAYERFERRY_REGISTRY=HOST:PORT" in refused.hint
    assert not [method for method, *_ in foreign.seen if method != "GET"]


def test_another_image_under_the_name_is_no_proof(job: Job, foreign: FakeRegistry) -> None:
    """Somebody who has read the name out of the daemon's request, and not the image."""
    job.names = {PUBLISHED: foreign.address}
    manifest = json.dumps({"mediaType": "x"}).encode()
    foreign.tags = type("Any", (dict,), {"get": lambda *_: ("x", manifest)})()
    assert [attempt.trouble for attempt in job.attempts()] == [ANOTHER]


UNPROVED = "the route registry cannot be taken: nothing proves that the daemon reaches the job's registry service: "


@pytest.mark.parametrize(
    ("job", "why"),
    [
        ({"refuses": "POST"}, "answers with HTTP 405 (UNSUPPORTED The operation is unsupported.)"),
        ({"refuses": "PUT /v2/"}, "answers with HTTP 405 (UNSUPPORTED The operation is unsupported.)"),
        ({"auth": "basic"}, "does not let this login push to layerferry/"),
        ({"auth": "token"}, "does not let this login push to layerferry/"),
    ],
    indirect=["job"],
    ids=["read-only", "refuses manifests", "basic", "token"],
)
def test_a_service_that_takes_no_image_of_ours_is_not_reached(job: Job, why: str) -> None:
    job.names = {PUBLISHED: job.service.address}
    refused = job.refusal()
    assert refused.message.startswith(f"{UNPROVED}the registry {job.service.address} {why}")
    assert refused.hint == "It has to take images without a login, as registry:2 does."
    assert not job.asked
    assert not job.service.tags


@pytest.mark.parametrize("job", [{"auth": "basic"}], indirect=True)
def test_a_login_of_the_job_is_not_given_to_whoever_answers_the_daemon(job: Job) -> None:
    job.names = {PUBLISHED: job.service.address}
    job.environ["DOCKER_AUTH_CONFIG"] = json.dumps(
        {"auths": {job.service.address: {"username": USER, "password": PASSWORD}}}
    )
    (attempt,) = job.attempts()
    assert (attempt.trouble, attempt.hint, attempt.endpoint) == ("no basic auth credentials", "", None)


def test_an_answer_that_is_none_is_no_proof(job: Job) -> None:
    job.names = {PUBLISHED: job.service.address}
    job.daemon_says = document([])
    (attempt,) = job.attempts()
    assert (attempt.endpoint, attempt.hint) == (None, "")
    assert attempt.trouble.startswith(f"the daemon's answer about {PUBLISHED}/layerferry/")


def test_a_service_that_the_daemon_does_not_reach_leaves_the_usual_sentence(job: Job) -> None:
    job.names = {PUBLISHED: ""}
    refused = job.refusal()
    assert refused.message == "the route registry cannot be taken: the daemon reaches no registry of this job"
    assert "layerferry doctor" in refused.hint
