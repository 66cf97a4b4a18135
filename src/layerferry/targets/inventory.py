"""From what a target says that it holds of an image to the inventory that a plan is made of."""

import base64
import contextlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from layerferry import log
from layerferry.errors import SourceError
from layerferry.oci.image import Descriptor, Image
from layerferry.oci.plan import Inventory
from layerferry.oci.store_kind import StoreKind
from layerferry.protocol import Capability
from layerferry.targets.conduit import Conduit
from layerferry.targets.conversation import Conversation
from layerferry.targets.greeting import Greeting, Holding, Place
from layerferry.temporary import TemporaryFolder

if TYPE_CHECKING:
    from layerferry.embedded_registry import PushedManifest

#: Images to learn from at most. Each costs a push of no bytes, 0.15 s on docker 28.5; the first holds most of it.
_MOST_HOLDERS = 3
#: A stall of 30 s was seen once while an engine was busy. Sending is the way out.
_PATIENCE = 12.0


@dataclass(slots=True)
class Knowledge:
    """What is known of a target's blobs: those that it told by diff ID, and by image ID the manifests pushed to us."""

    manifests: "Mapping[str, PushedManifest]" = field(default_factory=dict)
    told: Mapping[str, Descriptor] = field(default_factory=dict)

    def blobs(self, image: Image, holding: Holding) -> dict[str, Descriptor]:
        """By diff ID, the target's own blobs for layers of `image`."""
        found = {diff_id: self.told[diff_id] for diff_id in image.diff_ids if diff_id in self.told}
        for diff_id, place in places(image, holding).items():
            manifest = self.manifests.get(place.holder)
            if manifest is not None and place.below < len(manifest.layers):
                found[diff_id] = manifest.layers[place.below].in_oci_words
        return found

    def same(self, image: Image, holding: Holding) -> str:
        """The target's image ID of the very same image, if one is known: same layers, same config."""
        if holding.same:
            return holding.same
        manifest = self.manifests.get(holding.holder)
        if manifest is None or manifest.config is None or holding.depth != len(image.layers):
            return ""
        same = manifest.config.digest == image.id and len(manifest.layers) == len(image.layers)
        return holding.holder if same else ""


def places(image: Image, holding: Holding) -> dict[str, Place]:
    """By diff ID, where the target has layers of `image`."""
    below = {layer.diff_id: Place(holding.holder, number) for number, layer in enumerate(image.layers[: holding.depth])}
    return {**holding.loose, **below}


def learn(
    conversation: Conversation,
    conduit: Conduit,
    greeting: Greeting,
    images: Iterable[Image],
    fault: Callable[[Exception], None] = lambda _: None,
) -> Knowledge:
    """Find out which blobs a target with a blob-keyed store holds, without reading one of them.

    What it has told of itself is enough, as far as it goes. For layers that it holds without telling their blobs its
    daemon pushes the images to a registry of ours, through a forward in the same session. The registry claims to
    hold every blob, so what is pushed is just the manifest. Where the target cannot reach us, nothing is known.

    Whoever else is on the target reaches the registry, too, and may read its name in the daemon's command line: it
    asks for credentials, and of two manifests counts none. `fault` hears of an error of its own.
    """
    if greeting.store is not StoreKind.BLOB:
        return Knowledge()
    told = greeting.blobs
    wanted = [image for image in images if not greeting.holdings[image.id].present]
    found = [
        place.holder
        for image in wanted
        for diff_id, place in places(image, greeting.holdings[image.id]).items()
        if diff_id not in told
    ]
    holders = sorted(dict.fromkeys(found), key=found.count, reverse=True)[:_MOST_HOLDERS]
    if not holders or not conversation.takes(Capability.LOGIN):
        return Knowledge(told=told)
    return Knowledge(_pushed_manifests(conversation, conduit, holders, fault), told)


def _pushed_manifests(
    conversation: Conversation, conduit: Conduit, holders: Iterable[str], fault: Callable[[Exception], None]
) -> "dict[str, PushedManifest]":
    """By image ID, the manifests that the target's daemon pushes to us."""
    from layerferry.embedded_registry import Registry  # noqa: PLC0415 - only here it is needed, and it takes a while to load

    manifests: dict[str, PushedManifest] = {}
    user, password = "layerferry", secrets.token_hex(16)
    with (
        TemporaryFolder() as spool,
        Registry(spool=Path(spool), limit=0, credentials=(user, password), observe=log.served, fault=fault) as registry,
    ):
        port = conduit.reverse(registry.port)
        if port is None:
            return manifests
        for holder in holders:
            repository = registry.repository()
            repository.claim_all(budget=0, once=True)
            name = f"127.0.0.1:{port}/{repository.name}:learn"
            if not conversation.learn(holder, name, *_credentials(user, password, f"127.0.0.1:{port}")):
                break
            with contextlib.suppress(SourceError):  # it is sent, then
                manifests[holder] = repository.manifest(_PATIENCE)
    return manifests


def _credentials(user: str, password: str, address: str) -> tuple[str, str]:
    """As the daemon takes them in X-Registry-Auth (base64url, RFC 4648, section 5), and as config.json has them."""
    token = json.dumps({"username": user, "password": password, "serveraddress": address}).encode()
    return base64.urlsafe_b64encode(token).decode(), base64.b64encode(f"{user}:{password}".encode()).decode()


def inventory(image: Image, holding: Holding, store: StoreKind, knowledge: Knowledge) -> Inventory:
    """What `image`'s plan may count on."""
    there = frozenset(places(image, holding))
    match store:
        case StoreKind.BLOB:
            return Inventory(blobs=knowledge.blobs(image, holding), unnamed=there)
        case StoreKind.LAYER:
            return Inventory(diff_ids=there)
        case StoreKind.CHAIN:
            return Inventory(chain_ids=frozenset(layer.chain_id for layer in image.layers[: holding.depth]))
