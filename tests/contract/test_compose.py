"""Which images a compose file names, as far as `docker compose` says so: before stand-ins for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layerferry import compose
from layerferry.context import Context
from layerferry.errors import LayerferryError, UsageError
from layerferry.oci import limits


class Place:
    """A folder with a compose file, and stand-ins for docker's command and compose's own."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.file, self.calls = folder / "bin", folder / "compose.yaml", folder / "calls"
        self.bin.mkdir()
        self.file.write_text("services: {}\n")

    def stand_in(self, name: str, *, version: str, says: str = "", status: int = 0) -> None:
        """A compose that notes how it is called: `docker compose` or `docker-compose`."""
        plugin = '[ "$1" = compose ] || exit 1; shift' if name == "docker" else ":"
        answer = self.bin / f"{name}.says"
        answer.write_text(says)
        (self.bin / name).write_text(
            f'#!/bin/sh\n{plugin}\n[ "$1" != version ] || {{ echo "{version}"; exit; }}\n'
            f'printf "%s " {name} "$@" "TAG=$TAG" "KEY=$LAYERFERRY_SSH_KEY" >>{self.calls}\n'
            f"cat {answer}\n[ {status} = 0 ] || echo 'no such service: nope' >&2\nexit {status}\n"
        )
        (self.bin / name).chmod(0o755)

    def images(self, *services: str) -> list[str]:
        environ = {"PATH": f"{self.bin}:/usr/bin:/bin", "TAG": "7", "LAYERFERRY_SSH_KEY": "secret"}
        return compose.images(self.file, services, environ)

    def told(self, *services: str) -> str:
        with pytest.raises(UsageError) as raised:
            self.images(*services)
        assert raised.value.message.isprintable()
        return raised.value.message


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    # What is started is looked for where we look.
    monkeypatch.setenv("PATH", f"{place.bin}:/usr/bin:/bin")
    return place


def test_compose_is_asked_with_the_jobs_variables_and_none_of_ours(place: Place) -> None:
    place.stand_in("docker", version="2.26.1", says="app:7\npostgres:16\napp:7\n")
    assert place.images("web", "db") == ["app:7", "postgres:16"]
    assert place.calls.read_text() == f"docker --file {place.file} config --images web db TAG=7 KEY= "


def services(place: Place) -> tuple[str, ...]:
    return compose.project(place.file, ("web",), {"PATH": f"{place.bin}:/usr/bin:/bin"}).services


def test_the_services_of_a_project_are_told(place: Place) -> None:
    place.stand_in("docker", version="2.36.0", says='{"name": "app", "services": {"web": {"image": "a"}, "db": {}}}')
    assert services(place) == ("db", "web")
    assert "--file" in place.calls.read_text()
    place.stand_in("docker", version="2.36.0", says='{"name": "app"}')
    assert services(place) == ()


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ('{"services": {"web": {"provider": {"type": "./evil"}}}}', "web has a provider"),
        ('{"services": {"\\u001b[2J": {}}}', "cannot be told from each other"),
        ('{"services": []}', "damaged"),
        ('{"services": {"web": 5}}', "damaged"),
        ("services:", "is not JSON"),
        (f'{{"services": "{"x" * limits.COMPOSE_FILE}"}}', "says more than"),
    ],
)
def test_a_project_that_would_run_programs_here_or_is_none_is_refused(place: Place, says: str, told: str) -> None:
    place.stand_in("docker", version="2.36.0", says=says)
    with pytest.raises(UsageError) as raised:
        services(place)
    assert raised.value.message.isprintable()
    assert told in raised.value.message


def test_compose_by_itself_will_do(place: Place) -> None:
    (place.bin / "docker").write_text("#!/bin/sh\nexit 1\n")
    (place.bin / "docker").chmod(0o755)
    place.stand_in("docker-compose", version="v2.26.1-4", says="app:7\n")
    assert place.images() == ["app:7"]


def test_the_first_compose_and_none_are_told(place: Place) -> None:
    (place.bin / "docker").write_text("#!/bin/sh\nexit 1\n")
    (place.bin / "docker").chmod(0o755)
    (place.bin / "docker-compose").write_text("#!/bin/sh\nexit 1\n")
    (place.bin / "docker-compose").chmod(0o755)
    assert "needs `docker compose`" in place.told()
    place.stand_in("docker-compose", version="1.29.2")
    assert "docker compose is 1.29.2 here" in place.told()


def test_what_compose_says_is_wrong_is_told(place: Place) -> None:
    place.stand_in("docker", version="2.26.1", status=1)
    assert "no such service: nope" in place.told("nope")
    (place.bin / "docker").write_text('#!/bin/sh\n[ "$2" != version ] || { echo 2.26.1; exit; }\nexit 7\n')
    assert place.told() == f"{place.file} cannot be read by docker compose (status 7)"
    place.file.unlink()
    assert "there is no compose file" in place.told()


@pytest.mark.parametrize(
    "says",
    [
        "", "\n\n", "--all\n", "app:1 extra\n", "app:1\x1b[31m\n", "App:1\n", "app:$(x)\n", "../app\n", "\xff\xfe\n",
        "app:1\n" * 20_000, "".join(f"app:{number}\n" for number in range(100)),
    ],
)  # fmt: skip
def test_what_is_no_list_of_images_is_refused(place: Place, says: str) -> None:
    place.stand_in("docker", version="2.26.1", says=says)
    with pytest.raises(LayerferryError) as raised:
        place.images()
    assert raised.value.exit_code == 2


def test_a_service_is_no_option(place: Place) -> None:
    place.stand_in("docker", version="2.26.1", says="app:7\n")
    assert "'--project-directory=/' is not a service" in place.told("--project-directory=/")
    assert not place.calls.exists()


def test_a_compose_that_hangs_is_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMPOSE", 0.2)
    (place.bin / "docker").write_text("#!/bin/sh\nexec sleep 60\n")
    (place.bin / "docker").chmod(0o755)
    (place.bin / "docker-compose").write_text("#!/bin/sh\nexec sleep 60\n")
    (place.bin / "docker-compose").chmod(0o755)
    assert "needs `docker compose`" in place.told()


def test_what_the_daemon_has_goes_over_and_the_rest_is_told() -> None:
    digest = f"redis@sha256:{'0' * 64}"
    here, elsewhere = compose.divided(["app:7", "postgres:16", digest], lambda name: not name.startswith("postgres"))
    assert (here, elsewhere) == (["app:7"], ["postgres:16", digest])
    assert "has not them: postgres:16, redis@sha256:" in compose.left(elsewhere)
    assert "has not it: postgres:16" in compose.left(elsewhere[:1])


def test_a_compose_that_cannot_be_started_is_told(place: Place) -> None:
    (place.bin / "docker").write_text('#!/bin/sh\necho 2.26.1\n/bin/rm "$0"\n')
    (place.bin / "docker").chmod(0o755)
    with pytest.raises(UsageError, match=r"^docker cannot be started: No such file or directory$"):
        compose.images(place.file, [], {"PATH": str(place.bin)})


def test_a_file_whose_images_were_not_built_is_told(place: Place) -> None:
    place.stand_in("docker", version="2.26.1", says="app:7\n")
    daemon = SimpleNamespace(has=lambda _: False, close=lambda: None)
    around: Any = SimpleNamespace(environ={"PATH": f"{place.bin}:/usr/bin:/bin"}, daemon=lambda: daemon)
    with pytest.raises(UsageError) as raised:
        Context.composed(around, place.file, [], lambda _: None)
    assert raised.value.message == f"this job's daemon has none of the images that {place.file} names"
