"""An image out of a docker daemon's API, as `docker save` gives it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from layerferry.causes import cause_of
from layerferry.chunks import Ahead
from layerferry.errors import SourceError
from layerferry.events import so_far
from layerferry.oci.content import Blob
from layerferry.oci.image import Image
from layerferry.sources.daemon.client import FAULTS, DaemonClient, DaemonRefusal, patience, words_of
from layerferry.sources.daemon.save_stream import Save


class Export(Save):
    """The content of an image, read through the daemon's API, which calls it `name`.

    `told` hears where nothing comes for long, `moved` how many bytes have come, of some as many as the image has, or
    of 0 where it tells those of compressed layers; both are the same where all has come. Close it when done: the daemon
    then stops reading.
    """

    def __init__(
        self,
        client: DaemonClient,
        image: Image,
        name: str,
        wanted: frozenset[str],
        spool: Path,
        *,
        told: Callable[[str], None],
        moved: Callable[[int, int], None],
    ) -> None:
        self._client = client
        self._name = name
        self._told = told
        self._moved = moved
        super().__init__(image, wanted, self._read(image), spool)

    def __enter__(self) -> Self:
        """The daemon may take seconds before its first byte (2.4 s for 250 MB, docker 28.5): it is asked at once."""
        self._chunks = Ahead(self._asked(), told=self._told)
        return self

    def __exit__(self, *exception: object) -> None:
        self._chunks.close()
        self._client.close()

    def blobs(self) -> Iterator[Blob]:
        yield from super().blobs()
        self._moved(self.received, self.received)

    def _asked(self) -> Iterator[bytes]:
        yield from self._client.get_image(self._name)

    def _read(self, image: Image) -> Iterator[bytes]:
        try:
            for chunk in self._chunks:
                self.received += len(chunk)
                self._moved(*so_far(self.received, image.size if image.sizes_are == "uncompressed" else 0))
                yield chunk
        except (DaemonRefusal, *FAULTS) as error:
            if isinstance(cause_of(error), TimeoutError):
                seconds = patience(image)
                raise SourceError(
                    f"the docker daemon has given nothing more of {image.reference} for {seconds:.0f} s",
                    hint="See whether it is overloaded, or its disk is; then push again.",
                ) from None
            raise SourceError(
                f"the docker daemon broke off reading {image.reference}: {words_of(error)}", transient=True
            ) from None
