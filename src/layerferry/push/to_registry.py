"""A registry as the destination of a push: what is there, blobs, manifest, names, and a look at what they show."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from layerferry.chunks import UNSURE, checked, copied, exhaust
from layerferry.disk import KeptFile
from layerferry.errors import ConnectError, TargetError, UsageError, VerificationError
from layerferry.events import SENDING_EVERY, Emit, Greeted, Loading, Sending, Warned
from layerferry.oci.content import Blob, check_given
from layerferry.oci.delta_archive import describe, manifest_of
from layerferry.oci.documents import Document
from layerferry.oci.image import MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST, Descriptor, Image, Name, digest_of
from layerferry.oci.manifest import media_type_of, parse_manifest
from layerferry.oci.plan import Action, Inventory, Plan, complete, plan
from layerferry.push import way_back
from layerferry.push.blob_cache import Memory
from layerferry.push.delivery import Item
from layerferry.push.layer_blob import pack
from layerferry.push.registry_inventory import Look, RegistryInventory, look
from layerferry.push.request import Options, Wanted
from layerferry.push.upload_memory import UploadMemory
from layerferry.registry_client.endpoint import Blame, Endpoint
from layerferry.registry_client.pusher import RepositoryPusher
from layerferry.result import NamedImage
from layerferry.sources import SourceImage, kind_of
from layerferry.sources.unpacked import Unpacked
from layerferry.targets.bastion import Bastion
from layerferry.targets.registry_address import RegistryTarget
from layerferry.temporary import TemporaryFolder


def open_endpoint(
    target: RegistryTarget, told: Callable[[str], None] = lambda _: None, check: Callable[[], None] | None = None
) -> Endpoint:
    """The registry, through whatever leads there. `told` and `check` are the endpoint's. Raises `LayerferryError`."""
    link = target.connect()
    return Endpoint(
        target.address.domain,
        target.environ,
        plain_http=target.address.plain_http,
        relay=link if isinstance(link, Bastion) else None,
        blame=Blame(TargetError, ConnectError),
        told=told,
        check=check,
    )


@contextlib.contextmanager
def connect_registry(
    target: RegistryTarget, options: Options, emit: Emit, before: way_back.NamesBefore
) -> Iterator["RegistryDestination"]:
    """Ssh shakes hands, where it leads there, while the source is still looked at."""
    with contextlib.ExitStack() as stack:
        stack.callback(target.connect().close)
        yield RegistryDestination(target, options, emit, stack, before)


class RegistryDestination:
    """A registry, and some repositories of it. `stack` closes the connection."""

    has_platform = False
    follow = None

    def __init__(
        self,
        target: RegistryTarget,
        options: Options,
        emit: Emit,
        stack: contextlib.ExitStack,
        before: way_back.NamesBefore,
    ) -> None:
        self._target = target
        self._options = options
        self._emit = emit
        self._stack = stack
        self._before = before
        self._memory = Memory(target.environ)
        self._uploads = UploadMemory(target.environ)
        self._pushers: dict[str, RepositoryPusher] = {}
        #: By diff ID, what this push has brought, and the repository that it is in.
        self._brought: dict[str, tuple[str, Descriptor]] = {}

    def ask(self, wanted: Sequence[Wanted], candidates: Sequence[Sequence[SourceImage]]) -> None:
        """A registry is asked of one thing after the other, when it has answered at all."""

    def greet(self) -> Greeted:
        if self._options.prune is not None:
            raise UsageError(
                f"{self._target.name} is a registry, which removes images by rules of its own",
                hint="Leave --prune out, or push to the registry by itself.",
            )
        told = lambda text: self._emit(Warned(self._target.name, text))  # noqa: E731
        self._endpoint = open_endpoint(self._target, told, self._check)
        self._stack.callback(self._endpoint.close)
        return Greeted(self._target.name, f"registry ({self._endpoint.scheme})", "any platform")

    def plan(self, wanted: Sequence[Wanted], candidates: Sequence[Sequence[SourceImage]]) -> list[Item]:
        items = [self._plan(*pair) for pair in zip(wanted, (source for (source,) in candidates), strict=True)]
        if self._options.keep_previous:
            way_back.check([item.names for item in items], self._options.keep_previous)
        return items

    def _plan(self, wanted: Wanted, source: SourceImage) -> Item:
        names = self._names(wanted.names or source.names)
        if not names:
            return Item(wanted, source, complete(source.image), ())
        home = self._pusher(names[0])
        tags = [name.tag for name in names if name.path == home.name.path]
        how = Look(self._memory, not self._options.dry_run, self._endpoint.told, self._check)
        found = look(home, tags, source.image, source.held, how)
        tagged = tuple(name.tagged for name in names)
        same = found.same.manifest if found.same else None
        return Item(wanted, source, _planned(source.image, found), tagged, present=same is not None, manifest=same)

    def resolve(self, items: Sequence[Item]) -> None: ...

    def rate(self) -> float | None:
        return None

    def deliver(self, items: Sequence[Item]) -> None:
        for item in items:
            before, resumed = self.sent, self._resumed
            self._deliver(item)
            item.sent, item.resumed = self.sent - before, self._resumed - resumed

    def _names(self, names: Sequence[str]) -> list[Name]:
        return [self._target.address.name(name) for name in names]

    def _pusher(self, name: Name) -> RepositoryPusher:
        if name.path not in self._pushers:
            self._pushers[name.path] = RepositoryPusher(self._endpoint, name)
            self._pushers[name.path].unfinished = self._uploads
        return self._pushers[name.path]

    def _deliver(self, item: Item) -> None:
        names = self._names(item.names)
        home = self._pusher(names[0])
        with TemporaryFolder() as folder:
            spool = Path(folder)
            media_type, data = item.manifest or self._bring(item, home, spool)
            self._emit(Loading(self._target.name))
            item.kept = self._keep(names, digest_of(data))
            for name in names:
                pusher = self._pusher(name)
                if pusher is not home:
                    for blob in _blobs(data, home.place):
                        self._copy(blob, home, pusher, spool)
                if not item.present or not pusher.shows(name.tag, digest_of(data)):
                    media_type, data = give_name(pusher, name, media_type, data)
        item.image_id = digest_of(data)

    def _keep(self, names: Sequence[Name], coming: str) -> tuple[NamedImage, ...]:
        """Let what the names point to keep another tag, before they point to something else."""
        tag = self._options.keep_previous
        if not tag:
            return ()
        there = {name.tagged: found for name in names if (found := self._pusher(name).named(name.tag)) is not None}
        ids = {name: digest_of(data) for name, (_, data) in there.items()}
        tagged = [name.tagged for name in names]
        kept, given_up = way_back.kept(tagged, coming, self._before.of(tagged, coming, ids), tag)
        for name, digest in given_up:
            self._emit(Warned(self._target.name, f"{name} was another image, {digest}: no tag keeps that"))
        for image in kept:
            document = next((document for name, document in there.items() if ids[name] == image.image_id), None)
            if document is None:  # an earlier try has moved the name, and before that kept its image
                continue
            told, data = document
            keeper = Name.parse(image.names[0])
            give_name(self._pusher(keeper), keeper, media_type_of(data, told, self._target.name), data)
        return tuple(kept)

    def prune(self, items: Sequence[Item]) -> None:
        """A registry's images are its own to remove: `greet` has refused it."""

    def _bring(self, item: Item, home: RepositoryPusher, spool: Path) -> tuple[str, bytes]:
        """Upload what is missing, and the config; the manifest's media type, and the manifest."""
        home.begin()
        try:
            self._mount_from_source(item, home)
            before = frozenset(self._brought)
            wanted = item.plan.wanted - before
            found: dict[str, Descriptor] = {}
            with item.source.fetch(item.plan, item.route, wanted, spool) as opened:
                content = Unpacked(opened, UNSURE, spool)
                for blob in content.blobs():
                    found |= self._put(item, home, blob, spool)
                for diff_id in item.plan.wanted & before:
                    path, layer = self._brought[diff_id]
                    self._copy(layer, self._pushers[path], home, spool)
                check_given(item.plan.wanted, self._brought.keys(), item.wanted.reference)
                item.summary = content.finish()
            self._put_config(home, item.summary.config, spool)
            sent = {diff_id: blob for diff_id, (_, blob) in self._brought.items()}
            manifest = describe(item.plan, item.summary, {**sent, **item.plan.inventory.blobs})
        finally:
            home.cancel()
        item.plan = _with(item.plan, found)
        return manifest.media_type, manifest.data

    def _mount_from_source(self, item: Item, home: RepositoryPusher) -> None:
        """Blobs of another repository of the same registry need not come through us."""
        if kind_of(item.wanted.reference) != "registry":
            return
        origin = Name.parse(item.wanted.reference.removeprefix("registry:").rpartition("//")[2])
        if origin.domain != home.name.domain or origin.path == home.name.path:
            return
        blobs = {diff_id: blob for diff_id, blob in item.source.held.items() if diff_id in item.plan.wanted}
        there = {diff_id: blob for diff_id, blob in blobs.items() if home.mount(blob.digest, origin.path)}
        item.plan = _with(item.plan, there)

    def _put(self, item: Item, home: RepositoryPusher, blob: Blob, spool: Path) -> dict[str, Descriptor]:
        """Upload a layer, unless it turns out, now that its digest is known, that it is there: then it is given."""
        layer, path, seen = pack(blob, self._options.compression, spool)
        self._memory.add(seen)
        there = home.has(layer.digest)
        if not there:
            home.put_blob(layer, path, self._telling(item, blob.diff_id, layer.size))
        path.unlink()
        self._brought[blob.diff_id] = home.name.path, layer
        return {blob.diff_id: layer} if there else {}

    def _put_config(self, home: RepositoryPusher, data: bytes, spool: Path) -> None:
        config = Descriptor(MEDIA_TYPE_CONFIG, digest_of(data), len(data))
        if not home.has(config.digest):
            path = spool / "config"
            path.write_bytes(data)
            home.put_blob(config, path, lambda _: self._check())

    def _copy(self, blob: Descriptor, origin: RepositoryPusher, pusher: RepositoryPusher, spool: Path) -> None:
        """Take a blob over from another repository; where the registry does not do it by itself, through us."""
        if origin is pusher or pusher.has(blob.digest) or pusher.mount(blob.digest, origin.name.path):
            return
        path = spool / "copy"
        with KeptFile(path, blob.size) as file:
            exhaust(copied(checked(origin.blob(blob), blob, origin.place), file))
        pusher.put_blob(blob, path, lambda _: self._check())
        path.unlink()

    def _telling(self, item: Item, diff_id: str, size: int) -> Callable[[int], None]:
        """What hears of an upload's bytes, and tells of them; blobs that are still to come count as they may be."""
        layers = {layer.diff_id: layer.size for layer in item.plan.sent}
        here = {other: blob.size for other, (_, blob) in self._brought.items() if other in layers} | {diff_id: size}
        before = sum(here.values()) - size
        ratio = sum(here.values()) / max(1, sum(layers.get(other, 0) for other in here))
        left = sum(layers[other] for other in layers.keys() - here.keys()) * min(1.0, ratio)
        told = 0.0

        def tell(done: int) -> None:
            nonlocal told
            self._check()
            if time.monotonic() - told > SENDING_EVERY:
                told = time.monotonic()
                self._emit(Sending(self._target.name, before + done, round(before + size + left)))

        return tell

    def _check(self) -> None:
        """Break an upload off where another thread has ended the push."""
        if self._target.connect().closed:
            raise ConnectError(f"the push to {self._target.name} was broken off")

    @property
    def sent(self) -> int:
        return sum(pusher.sent for pusher in self._pushers.values())

    @property
    def _resumed(self) -> int:
        return sum(pusher.resumed for pusher in self._pushers.values())


def give_name(pusher: RepositoryPusher, name: Name, media_type: str, data: bytes) -> tuple[str, bytes]:
    """Give an image its name, the last step of all, and look whether it has it; the manifest that it has.

    Where a registry takes docker's manifests no more, it is OCI's of the same blobs.
    """
    if not pusher.put_manifest(name.tag, media_type, data):
        config, *layers = _blobs(data, pusher.place)
        media_type, data = MEDIA_TYPE_MANIFEST, manifest_of(config, layers)
        pusher.put_manifest(name.tag, media_type, data)
    if not pusher.shows(name.tag, digest_of(data)):
        raise VerificationError(
            f"{pusher.place} shows {name.path}:{name.tag} as something else than was sent",
            hint="Somebody else may have pushed it at the same time; a mirror may show what is older.",
        )
    return media_type, data


def _planned(image: Image, found: RegistryInventory) -> Plan:
    return complete(image) if found.same and not found.why else plan(image, Inventory(blobs=found.blobs, why=found.why))


def _with(before: Plan, blobs: Mapping[str, Descriptor]) -> Plan:
    """The plan where the target has some blobs more."""
    inventory = before.inventory
    why = {diff_id: words for diff_id, words in inventory.why.items() if diff_id not in blobs}
    after = plan(before.image, replace(inventory, blobs={**inventory.blobs, **blobs}, why=why))
    steps = (
        old if old.shared and new.action is Action.SEND else new
        for old, new in zip(before.steps, after.steps, strict=True)
    )
    return replace(after, steps=tuple(steps))


def _blobs(manifest: bytes, place: str) -> Sequence[Descriptor]:
    """The config and the layers that a manifest names."""
    config, layers = parse_manifest(Document.parse(manifest, f"a manifest in {place}", error=TargetError), place)
    return [config, *layers]
