"""`registry:HOST/NAME[:TAG][@DIGEST]`: an image in a registry, of which only the missing blobs are read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from layerferry.errors import SourceError
from layerferry.oci.image import Descriptor, Name, Platform, digest_of
from layerferry.oci.manifest import IndexEntry, find, media_type_of
from layerferry.registry_client.endpoint import Endpoint
from layerferry.registry_client.repository import Repository
from layerferry.sources import Source, SourceImage
from layerferry.sources.digest_store import DirectImage


class RemoteStore:
    """A `digest_store.Store`: a repository. Documents are asked for once; a registry may count manifests' readers."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._documents: dict[str, bytes] = {}
        self.place = repository.place

    def close(self) -> None:
        self._repository.close()

    def root(self, reference: str, digest: str) -> IndexEntry:
        """The manifest or index that a tag or digest names; `digest` is what it has to be, if that is known."""
        content_type, data = self._repository.manifest(reference)
        found = digest_of(data)
        if digest and found != digest:
            raise SourceError(f"{self.place} is damaged: what should be {digest} is {found}")
        self._documents[found] = data
        return IndexEntry(Descriptor(media_type_of(data, content_type, self.place), found, len(data)))

    def has(self, digest: str) -> bool:
        """Only reading it would tell."""
        del digest
        return True

    def document(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self._documents:
            self._documents[descriptor.digest] = self._repository.document(descriptor)
        return self._documents[descriptor.digest]

    def stream(self, blobs: Sequence[Descriptor]) -> Iterator[tuple[Descriptor, Iterator[bytes]]]:
        for blob in blobs:
            yield blob, self._repository.blob(blob)


class RemoteSource(Source):
    """A source for references of the form `registry:[http://]HOST/NAME[:TAG][@DIGEST]`.

    `http://` is for a registry without TLS on another machine. The user's logins are found through `environ`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._roots: dict[str, tuple[RemoteStore, IndexEntry]] = {}

    def open(self, reference: str, platform: Platform | None = None) -> SourceImage:
        text = reference.removeprefix("registry:")
        name = Name.parse(text.removeprefix("http:").removeprefix("https:").removeprefix("//"))
        if reference not in self._roots:
            endpoint = Endpoint(name.domain, self._environ, plain_http=text.startswith("http://"))
            store = RemoteStore(Repository(endpoint, name))
            root = store.root(name.digest or name.tag or "latest", name.digest)
            full_name = name.tagged if name.tag or not name.digest else ""
            self._roots[reference] = store, replace(root, full_name=full_name)
        store, root = self._roots[reference]
        return DirectImage.stored(find(store, [root], reference, platform), "the registry is read from here", store)

    def close(self) -> None:
        for store, _ in self._roots.values():
            store.close()
