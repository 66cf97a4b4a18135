"""The flow of one push into a registry: image, what is there, plan, blobs, manifest, a look at it, result."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from layerferry.chunks import checked, copied, exhaust
from layerferry.disk import KeptFile
from layerferry.errors import ConnectError, TargetError, VerificationError
from layerferry.events import SENDING_EVERY, Emit, Greeted, Loading, Planned, Route, Sending, Warned
from layerferry.oci.delta_archive import ArchivedImage, Blob, Content, Manifest, describe
from layerferry.oci.documents import Document
from layerferry.oci.image import MEDIA_TYPE_CONFIG, Descriptor, Image, Name, digest_of
from layerferry.oci.manifest import Found, parse_manifest
from layerferry.oci.plan import Inventory, Plan, complete, plan
from layerferry.push.blob_cache import Memory
from layerferry.push.layer_blob import pack
from layerferry.push.registry_inventory import Look, RegistryInventory, look
from layerferry.push.request import NO_ROUTE, Options, Wanted, nameless
from layerferry.registry_client.endpoint import Blame, Endpoint
from layerferry.registry_client.pusher import RepositoryPusher
from layerferry.result import Bytes, Result
from layerferry.sources import Source, kind_of
from layerferry.targets.bastion import Bastion
from layerferry.targets.registry_address import RegistryTarget
from layerferry.temporary import TemporaryFolder


@dataclass(slots=True)
class _RegistryItem:
    """One image on its way to one registry."""

    wanted: Wanted
    image: Image
    names: tuple[Name, ...]
    plan: Plan
    held: Mapping[str, Descriptor]
    same: Found | None = None
    route: Route = NO_ROUTE
    image_id: str = ""
    received: int = 0
    sent: int = 0
    #: By diff ID, what it turned out that the registry has, after all.
    found: dict[str, Descriptor] = field(default_factory=dict)


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


class RegistryDelivery:
    """Some images to one registry."""

    def __init__(self, wanted: Sequence[Wanted], options: Options, emit: Emit) -> None:
        self._wanted = wanted
        self._options = options
        self._emit = emit
        self._shelves: dict[str, RepositoryPusher] = {}
        self._memory: Memory | None = None
        #: By diff ID, what this push has brought, and the repository that it is in.
        self._brought: dict[str, tuple[str, Descriptor]] = {}

    def run(self, target: RegistryTarget, open_source: Callable[[], Source]) -> list[Result]:
        """Push, and tell what came of it. ssh shakes hands while the source is still being inspected.

        Raises `LayerferryError`; the tags name what they named before, then.
        """
        start = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(target.connect().close)
            source = stack.enter_context(contextlib.closing(open_source()))
            images = [source.inspect(wanted.reference, self._options.platform) for wanted in self._wanted]
            told = lambda message: self._emit(Warned(target.name, message))  # noqa: E731
            endpoint = open_endpoint(target, told, lambda: self._check(target))
            stack.callback(endpoint.close)
            engine = f"registry ({endpoint.scheme})"
            self._emit(Greeted(target.name, engine, "any platform"))
            pairs = zip(self._wanted, images, strict=True)
            items = [self._plan(target, endpoint, source, wanted, image) for wanted, image in pairs]
            source.expect([item.plan for item in items if item.same is None])
            for item in items:
                if item.same is None:
                    item.route = source.choose(item.plan)
                self._emit(Planned(target.name, item.plan, item.route))
            if not self._options.dry_run:
                for item in items:
                    self._deliver(target, source, item)
        return [self._result(target, engine, item, time.monotonic() - start) for item in items]

    def _plan(
        self, target: RegistryTarget, endpoint: Endpoint, source: Source, wanted: Wanted, image: Image
    ) -> _RegistryItem:
        names = tuple(target.address.name(name) for name in wanted.names or source.names(image))
        if not names:
            raise nameless(wanted.reference)
        for name in names:
            if name.path not in self._shelves:
                self._shelves[name.path] = RepositoryPusher(endpoint, name)
        home = self._shelves[names[0].path]
        held = source.held(image)
        how = Look(
            self._memory_of(target),
            reads=not self._options.dry_run,
            told=endpoint.told,
            check=lambda: self._check(target),
        )
        stock = look(home, [name.tag for name in names if name.path == home.name.path], image, held, how)
        return _RegistryItem(wanted, image, names, _planned(image, stock), held, stock.same)

    def _memory_of(self, target: RegistryTarget) -> Memory:
        self._memory = self._memory or Memory(target.environ)
        return self._memory

    def _deliver(self, target: RegistryTarget, source: Source, item: _RegistryItem) -> None:
        before = self._sent
        home = self._shelves[item.names[0].path]
        with TemporaryFolder() as folder:
            spool = Path(folder)
            if item.same is not None and item.same.manifest is not None:
                media_type, data = item.same.manifest
            else:
                manifest = self._bring(target, source, item, home, spool)
                media_type, data = manifest.media_type, manifest.data
            self._emit(Loading(target.name))
            for name in item.names:
                shelf = self._shelves[name.path]
                if shelf is not home:
                    for blob in _blobs(data, home.place):
                        self._copy(target, blob, home, shelf, spool)
                if item.same is None or not shelf.shows(name.tag, digest_of(data)):
                    self._name(shelf, name, media_type, data)
        item.image_id = digest_of(data)
        item.sent = self._sent - before

    def _name(self, shelf: RepositoryPusher, name: Name, media_type: str, data: bytes) -> None:
        """Give an image its name, the last step of all, and look whether it has it."""
        shelf.put_manifest(name.tag, media_type, data)
        if not shelf.shows(name.tag, digest_of(data)):
            raise VerificationError(
                f"{shelf.place} shows {name.path}:{name.tag} as something else than was sent",
                hint="Somebody else may have pushed it at the same time; a mirror may show what is older.",
            )

    def _bring(
        self, target: RegistryTarget, source: Source, item: _RegistryItem, home: RepositoryPusher, spool: Path
    ) -> Manifest:
        """Upload what is missing, and the config."""
        home.begin()
        try:
            self._mount_from_source(item, home)
            wanted = item.plan.wanted - self._brought.keys()
            with source.fetch(item.plan, item.route, wanted, spool) as content:
                for blob in content.blobs():
                    self._put(target, item, home, blob, spool)
                for diff_id in item.plan.wanted - wanted:
                    path, layer = self._brought[diff_id]
                    self._copy(target, layer, self._shelves[path], home, spool)
                self._put_config(target, home, content, spool)
                item.received = content.received
                item.route = getattr(content, "route", None) or item.route
                sent = {diff_id: blob for diff_id, (_, blob) in self._brought.items()}
                manifest = describe(ArchivedImage(item.plan, content, ""), {**sent, **item.plan.inventory.blobs})
        finally:
            home.cancel()
        item.plan = _with(item.plan, item.found)
        return manifest

    def _mount_from_source(self, item: _RegistryItem, home: RepositoryPusher) -> None:
        """Blobs of another repository of the same registry need not come through us."""
        if kind_of(item.wanted.reference) != "registry":
            return
        origin = Name.parse(item.wanted.reference.removeprefix("registry:").rpartition("//")[2])
        if origin.domain != home.name.domain or origin.path == home.name.path:
            return
        blobs = {diff_id: blob for diff_id, blob in item.held.items() if diff_id in item.plan.wanted}
        there = {diff_id: blob for diff_id, blob in blobs.items() if home.mount(blob.digest, origin.path)}
        item.plan = _with(item.plan, there)

    def _put(
        self, target: RegistryTarget, item: _RegistryItem, home: RepositoryPusher, blob: Blob, spool: Path
    ) -> None:
        """Upload a layer, unless it turns out, now that its digest is known, that it is there."""
        layer, path, seen = pack(blob, self._options.compression, spool)
        self._memory_of(target).add(seen)
        if home.has(layer.digest):
            item.found[blob.diff_id] = layer
        else:
            home.put_blob(layer, path, self._telling(target, item, blob.diff_id, layer.size))
        path.unlink()
        self._brought[blob.diff_id] = home.name.path, layer

    def _put_config(self, target: RegistryTarget, home: RepositoryPusher, content: Content, spool: Path) -> None:
        config = Descriptor(MEDIA_TYPE_CONFIG, digest_of(content.config), len(content.config))
        if not home.has(config.digest):
            path = spool / "config"
            path.write_bytes(content.config)
            home.put_blob(config, path, lambda _: self._check(target))

    def _copy(
        self, target: RegistryTarget, blob: Descriptor, source: RepositoryPusher, shelf: RepositoryPusher, spool: Path
    ) -> None:
        """Take a blob over from another repository; where the registry does not do it by itself, through us."""
        if source is shelf or shelf.has(blob.digest) or shelf.mount(blob.digest, source.name.path):
            return
        path = spool / "copy"
        with KeptFile(path, blob.size) as file:
            exhaust(copied(checked(source.blob(blob), blob, source.place), file))
        shelf.put_blob(blob, path, lambda _: self._check(target))
        path.unlink()

    def _telling(self, target: RegistryTarget, item: _RegistryItem, diff_id: str, size: int) -> Callable[[int], None]:
        """What hears of an upload's bytes, and tells of them in bytes of the plan."""
        layers = {layer.diff_id: layer.size for layer in item.plan.sent}
        before = sum(layers[other] for other in self._brought if other in layers)
        told = 0.0

        def tell(done: int) -> None:
            nonlocal told
            self._check(target)
            if time.monotonic() - told > SENDING_EVERY:
                told = time.monotonic()
                share = layers.get(diff_id, 0) * done // size
                self._emit(Sending(target.name, before + share, item.plan.delta, self._sent))

        return tell

    @staticmethod
    def _check(target: RegistryTarget) -> None:
        """Break an upload off where another thread has ended the push."""
        if target.connect().closed:
            raise ConnectError(f"the push to {target.name} was broken off")

    @property
    def _sent(self) -> int:
        return sum(shelf.sent for shelf in self._shelves.values())

    def _result(self, target: RegistryTarget, engine: str, item: _RegistryItem, seconds: float) -> Result:
        return Result(
            image=item.wanted.reference,
            target=target.name,
            route=item.route,
            engine=engine,
            steps=item.plan.steps,
            bytes=Bytes(item.image.size, item.plan.delta, item.sent, item.received),
            seconds=seconds,
            image_id=item.image_id,
            verified=bool(item.image_id),
            names=tuple(name.tagged for name in item.names),
            dry_run=self._options.dry_run,
        )


def _planned(image: Image, stock: RegistryInventory) -> Plan:
    return complete(image) if stock.same and not stock.why else plan(image, Inventory(blobs=stock.blobs, why=stock.why))


def _with(before: Plan, blobs: Mapping[str, Descriptor]) -> Plan:
    """The plan where the target has some blobs more."""
    inventory = before.inventory
    why = {diff_id: words for diff_id, words in inventory.why.items() if diff_id not in blobs}
    return plan(before.image, replace(inventory, blobs={**inventory.blobs, **blobs}, why=why))


def _blobs(manifest: bytes, place: str) -> Sequence[Descriptor]:
    """The config and the layers that a manifest names."""
    config, layers = parse_manifest(Document.parse(manifest, f"a manifest in {place}", error=TargetError), place)
    return [config, *layers]
