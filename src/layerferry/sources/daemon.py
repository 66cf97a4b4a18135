"""A docker daemon as the source: what it says of an image, and the image's bytes. The docker SDK lives here alone."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import docker
import docker.errors
import requests
from docker.context import ContextAPI

from layerferry import log
from layerferry.ci.services import check_daemon_url
from layerferry.errors import SourceError
from layerferry.image import Image, Layer, Platform
from layerferry.sources.causes import reason
from layerferry.sources.dial import DialAdapter
from layerferry.sources.save import CHUNK, Save

#: The tag of what a daemon pushes to us, in a repository that nobody else knows.
PUSH_TAG = "layerferry"
_TIMEOUT = 60
#: The API's version for the one question that has none; docker 19.03's.
_OLDEST = "1.40"
#: docker before 25 writes the whole archive to its own disk before the first byte comes.
_SAVE_TIMEOUT = 3600
#: Seconds that a daemon has to tell whether it reaches a registry.
_PROBE_TIMEOUT = 5
#: docker's own storage drivers; with the containerd image store, an image shows a snapshotter, or nothing at all.
_GRAPH_DRIVERS = {"overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs", "aufs", "devicemapper", "overlay"}
#: Images to look at for layers whose digest the daemon knows.
_MOST_BASES = 16
#: Instructions that make no layer: their history entries have no bytes, as those of some layers have none.
_LAYERLESS = ("ENV", "CMD", "ENTRYPOINT", "LABEL", "EXPOSE", "USER", "ARG", "VOLUME", "STOPSIGNAL", "HEALTHCHECK",
              "ONBUILD", "MAINTAINER", "SHELL")  # fmt: skip


class Daemon:
    """A docker daemon, reached as the docker CLI would reach it: DOCKER_HOST and TLS variables, else the context."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._arguments, self.address = _address(environ)
        self._version = "auto"
        self._client = self._connect(_TIMEOUT)
        self._stores: dict[str, str] = {}
        self._known: dict[str, frozenset[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def _connect(self, timeout: int) -> docker.APIClient:
        try:
            if self.address.startswith("ssh://"):
                return _dial(self.address, timeout)
            client = docker.APIClient(**self._arguments, version=self._version, timeout=timeout)
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
            raise SourceError(
                f"the docker daemon at {self.address} does not answer ({_reason(error)})",
                hint="Start it, or point DOCKER_HOST or a docker context at it: `docker version` must work here.",
            ) from None
        self._version = client.api_version  # is asked for once
        client.hooks["response"].append(log.answered("daemon"))
        return client

    def version(self) -> str:
        """The daemon's version and storage driver, for people."""
        try:
            info = self._client.info()
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise SourceError(f"the docker daemon at {self.address} does not answer ({_reason(error)})") from None
        return f"docker {info.get('ServerVersion')} ({info.get('Driver')}), {info.get('OSType')}"

    def inspect(self, reference: str, platform: Platform | None = None) -> Image:
        """Describe an image; nothing of its layers is read. Raises `SourceError` where there is none of that name."""
        try:
            found = self._client.inspect_image(reference)
            history = self._client.history(reference)
        except docker.errors.ImageNotFound:
            raise SourceError(
                f"the docker daemon at {self.address} has no image {reference}",
                hint="Build or pull it first; `docker image ls` shows what is there.",
            ) from None
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise SourceError(
                f"the docker daemon at {self.address} does not show {reference}: {_reason(error)}"
            ) from None
        diff_ids = (found.get("RootFS") or {}).get("Layers") or []
        platform = Platform(found["Os"], found["Architecture"], found.get("Variant") or "")
        sizes = layer_sizes(list(reversed(history)), len(diff_ids))
        driver = (found.get("GraphDriver") or {}).get("Name")
        image_id = found["Id"] if found["Id"].startswith("sha256:") else f"sha256:{found['Id']}"
        image = Image(reference, image_id, platform, Layer.chain(diff_ids, sizes))
        self._stores[image.id] = "chain" if driver in _GRAPH_DRIVERS else "blob"
        self._known[image.id] = self._find_known(image, found) if driver in _GRAPH_DRIVERS else frozenset(diff_ids)
        return image

    def _find_known(self, image: Image, found: Mapping[str, Any]) -> frozenset[str]:
        """Layers of images that were pulled or pushed; a base is one of the largest that are no larger than ours."""
        if found.get("RepoDigests"):
            return frozenset(image.diff_ids)
        known: set[str] = set()
        try:
            images = [row for row in self._client.images() if row.get("RepoDigests") and row["Size"] <= found["Size"]]
            for row in sorted(images, key=lambda row: -int(row["Size"]))[:_MOST_BASES]:
                known.update((self._client.inspect_image(row["Id"]).get("RootFS") or {}).get("Layers") or ())
        except (docker.errors.DockerException, requests.RequestException):
            pass  # an image may go away meanwhile, and this is a guess all the same
        return frozenset(image.diff_ids) & known

    def known(self, image: Image) -> frozenset[str]:
        """The diff IDs that the daemon, as far as we can see, knows a blob digest for.

        A push of any other layer uploads it, whatever a registry claims to hold (moby, distribution/push_v2.go).
        """
        return self._known.get(image.id, frozenset())

    def store(self, image: Image) -> str:
        """How the daemon stores images: `chain` (a graph driver), or `blob` (the containerd image store)."""
        return self._stores.get(image.id, "chain")

    def export(self, image: Image, wanted: frozenset[str], spool: Path) -> "Export":
        """Stream the image out of the daemon (`docker save`), and pick the `wanted` layers."""
        return Export(self._connect(_SAVE_TIMEOUT), image, wanted, spool)

    def reaches(self, name: str, auth: Mapping[str, str] | None = None) -> str:
        """Ask the daemon for an image of a registry that has none; why it does not reach it, or an empty string.

        An answer that tells the image unknown is the sign of success; a bare 404 is podman's for the whole endpoint.
        """
        try:
            with closing(self._connect(_PROBE_TIMEOUT)) as client:
                client.inspect_distribution(name, auth_config=dict(auth or {}))
        except docker.errors.APIError as error:
            said = _reason(error)
            return "" if "manifest unknown" in said or "name unknown" in said else said
        except (docker.errors.DockerException, requests.RequestException) as error:
            return _reason(error)
        return ""

    @contextmanager
    def pushing(
        self, image: Image, repository: str, auth: Mapping[str, str] | None = None
    ) -> Iterator[Callable[[], None]]:
        """A call that lets the daemon push an image as `repository`:layerferry; afterwards it looks as it did before.

        The credentials go with the request alone: nothing is logged in, no credential helper is asked. Any of it raises
        `SourceError`.
        """
        name = f"{repository}:{PUSH_TAG}"
        with closing(self._connect(_SAVE_TIMEOUT)) as client:

            def push() -> None:
                with _told():
                    for line in client.push(name, stream=True, decode=True, auth_config=dict(auth or {})):
                        if error := line.get("error"):
                            raise SourceError(f"the docker daemon could not push: {error}")

            with _told():
                client.tag(image.id, repository, PUSH_TAG, force=True)
            try:
                yield push
            finally:
                with _told():
                    client.remove_image(name, noprune=True)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise SourceError(f"the docker daemon could not push: {_reason(error)}") from None


class Export(Save):
    """The content of an image, read through the daemon's API. Close it when done: the daemon then stops reading."""

    def __init__(self, client: docker.APIClient, image: Image, wanted: frozenset[str], spool: Path) -> None:
        self._client = client
        self.received = 0
        super().__init__(image, wanted, self._read(image), spool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def _read(self, image: Image) -> Iterator[bytes]:
        try:
            with closing(ahead(self._client.get_image(image.id, chunk_size=CHUNK))) as chunks:
                for chunk in chunks:
                    self.received += len(chunk)
                    yield chunk
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise SourceError(f"the docker daemon broke off reading {image.reference}: {_reason(error)}") from None


def _dial(url: str, timeout: int) -> docker.APIClient:
    """A client whose requests go through ssh. The daemon's version is asked before: the SDK would ask elsewhere."""
    adapter, version = DialAdapter(url), _OLDEST
    for _ in range(2):
        client = docker.APIClient(base_url="http://localhost:2375", version=version, timeout=timeout)
        client.mount("http://", adapter)
        client.hooks["response"].append(log.answered("daemon"))
        version = client.version(api_version=False)["ApiVersion"]
    return client


def _address(environ: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The SDK's arguments, and the address for people. DOCKER_HOST goes before the context, as in the docker CLI."""
    host = check_daemon_url(environ.get("DOCKER_HOST", ""), "DOCKER_HOST")
    arguments: dict[str, Any] = {}
    if not host:
        try:
            context = ContextAPI.get_context(environ.get("DOCKER_CONTEXT") or None)
        except docker.errors.DockerException as error:
            raise SourceError(f"the docker context cannot be read: {_reason(error)}") from None
        if context is None:
            raise SourceError(
                f"there is no docker context {environ.get('DOCKER_CONTEXT')!r}", hint="`docker context ls` shows them."
            )
        host = check_daemon_url(context.Host or "", "the docker context")
        if context.TLSConfig:
            arguments["tls"] = context.TLSConfig
    elif environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_CERT_PATH"):
        arguments = docker.utils.kwargs_from_env(environment=dict(environ))
    if host:
        arguments.setdefault("base_url", host)
    return arguments, host or "unix:///var/run/docker.sock"


def layer_sizes(history: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """Bytes of each of `count` layers, bottom first, of a history, bottom first.

    An engine's history does not say which entries made a layer. Those with bytes did; of the others those that are not
    known to make none. Where that does not add up to `count`, the sizes are lost: they are estimates all the same.
    """
    sized = [entry for entry in history if entry["Size"]]
    if len(sized) != count:
        sized = [entry for entry in history if entry["Size"] or not _is_layerless(entry.get("CreatedBy") or "")]
    if len(sized) != count:
        sized = [entry for entry in history if entry["Size"]][:count]
    sizes = [int(entry["Size"]) for entry in sized]
    return sizes + [0] * (count - len(sizes))


def _is_layerless(created_by: str) -> bool:
    """BuildKit writes `ENV A=1`, the builder before it `/bin/sh -c #(nop)  ENV A=1`."""
    return created_by.removeprefix("/bin/sh -c #(nop)").lstrip().startswith(_LAYERLESS)


def _reason(error: Exception) -> str:
    """An SDK error in one line: what the daemon said, or what is behind it, since the SDK wraps texts in each other."""
    text = str(getattr(error, "explanation", None) or reason(error))
    return text.strip().splitlines()[0][:300] if text.strip() else type(error).__name__


def ahead(chunks: Iterable[bytes], depth: int = 4) -> Generator[bytes]:
    """Read `chunks` in a thread of their own, at most `depth` ahead, so that reading and sending overlap."""
    line: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: bytes | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                line.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            if all(put(chunk) for chunk in chunks):
                put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the chunks are wanted
            put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (item := line.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
