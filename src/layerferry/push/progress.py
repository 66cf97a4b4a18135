"""How far an archive is on its way: bytes that have left this machine, of an estimate of what they will be."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from layerferry.compression.stream import Flow
from layerferry.events import SENDING_EVERY, Emit, Loading, Sending
from layerferry.oci.content import Blob, Content, Summary
from layerferry.oci.delta_archive import ArchivedImage
from layerferry.oci.image import Descriptor
from layerferry.oci.plan import Action, Plan
from layerferry.targets.conduit import Conduit

#: What a layer shrinks to that is not compressed yet, as long as nothing is known of it, and the bytes of a layer for
#: which that counts.
PRIOR = 0.4
_PRIOR_WEIGHT = 512 << 10
#: Bytes of layers from which on it is looked at what ssh still holds. Fewer have gone before anybody reads a line.
_WORTH_MEASURING = 1 << 20
#: How many times longer than a look it is to the next one, at least: looking costs at most 2 % of the time. No display
#: waits longer than so many seconds, whatever has held up a look.
_PAUSES = 50
_LONGEST_PAUSE = 5.0


def wire_bytes(plan: Plan, held: Mapping[str, Descriptor]) -> int:
    """Bytes that a plan will send, some: of a layer that its source holds compressed as many as that has."""
    total = 0.0
    for step in {step.layer.diff_id: step for step in plan.steps if step.lacking}.values():
        blob = held.get(step.layer.diff_id)
        if blob is not None and blob.is_compressed:
            total += blob.size
        else:
            total += step.lacking * (1 if step.layer.packed else PRIOR)
    return round(total)


class Progress:
    """Progress of one archive to one target. It looks at how far that is whenever it is asked to `look`.

    `flow` tells of the compressor. Sizes of layers are estimates until the layer comes.
    """

    def __init__(
        self, plans: Iterable[Plan], conduit: Conduit, emit: Emit, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.flow = Flow()
        self._conduit = conduit
        self._emit = emit
        self._clock = clock
        self._next = clock()
        self._loading = False
        #: By diff ID, bytes that go into the compressor, and whether they are compressed already.
        self._layers = {
            step.layer.diff_id: (step.new if step.action is Action.PATCH else step.layer.size, step.layer.packed)
            for plan in plans
            for step in plan.steps
            if step.action is not Action.REUSE
        }
        if sum(size for size, _ in self._layers.values()) >= _WORTH_MEASURING:
            conduit.measure()
        self._begun = conduit.taken

    def counting(self, images: Sequence[ArchivedImage]) -> list[ArchivedImage]:
        """The images, whose layers tell of their true sizes as they come."""
        return [replace(image, content=_Counting(image.content, self._comes)) for image in images]

    def _comes(self, blob: Blob) -> None:
        if blob.recipe is None:
            packed = blob.descriptor.is_compressed and blob.pieces is None
            self._layers[blob.diff_id] = blob.descriptor.size, packed

    def look(self) -> bool:
        """Tell how far the archive is, if that was not told just now; whether there is more to be told."""
        now = self._clock()
        if self._loading or now < self._next:
            return not self._loading
        taken = self._conduit.taken - self._begun
        cost = self._clock() - now
        self._next = now + max(SENDING_EVERY, min(_PAUSES * cost, _LONGEST_PAUSE))
        if self.flow.ended and taken >= self.flow.produced:
            self.end()
            return False
        total = max(self._expected(), 1)
        if not self._conduit.is_here:  # what comes from afar tells of itself
            self._emit(Sending(self._conduit.name, min(taken, total), total))
        return True

    def end(self) -> None:
        """Tell that all of the archive has gone, if that was not told yet."""
        if not self._loading:
            self._loading = True
            self._emit(Loading(self._conduit.name))

    def _expected(self) -> int:
        """Bytes on the wire in the end: those that the compressor has made, and what will become of all others."""
        flow = self.flow
        if flow.ended:
            return flow.produced
        plain, stored = flow.plain, flow.stored
        worked_off = plain.produced - flow.pending + PRIOR * _PRIOR_WEIGHT
        ratio = worked_off / (plain.consumed + _PRIOR_WEIGHT)
        plain_left = self._size(packed=False) - plain.consumed - flow.spared - flow.pending / ratio
        stored_left = self._size(packed=True) - stored.consumed
        return round(plain.produced + stored.produced + max(0.0, plain_left) * ratio + max(0, stored_left))

    def _size(self, *, packed: bool) -> int:
        return sum(size for size, is_packed in self._layers.values() if is_packed is packed)


class _Counting:
    """A content that tells of each layer before it comes."""

    def __init__(self, content: Content, comes: Callable[[Blob], None]) -> None:
        self._content = content
        self._comes = comes

    def blobs(self) -> Iterator[Blob]:
        for blob in self._content.blobs():
            self._comes(blob)
            yield blob

    def finish(self) -> Summary:
        return self._content.finish()
