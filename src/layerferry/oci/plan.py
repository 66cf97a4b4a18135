"""Which layers a target lacks: a pure function of an image and the target's inventory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from layerferry.oci.image import Descriptor, Image, Layer


class Action(StrEnum):
    REUSE = "reuse"
    SEND = "send"
    #: A part of it is sent; the target makes the rest of files that it has.
    PATCH = "patch"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a target says that it has, of what was asked.

    `chain_ids` is what a classic graph-driver store goes by: a layer *with all layers below it*. `diff_ids` are layers
    that the engine finds in whatever chain (podman). `blobs` maps a diff ID to the target's own blob descriptor, where
    the store keys on blobs (docker's containerd image store): only what is in it may be left out of an archive there,
    since a manifest must name the very blobs that the store holds.
    """

    chain_ids: frozenset[str] = frozenset()
    diff_ids: frozenset[str] = frozenset()
    blobs: Mapping[str, Descriptor] = field(default_factory=dict)
    #: By diff ID, in a few words, how it is known that the target has it, or why that is not believed.
    why: Mapping[str, str] = field(default_factory=dict)
    #: Diff IDs that the engine shows in some image, though we do not know under which blob digest it keeps them.
    unnamed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one layer, and why."""

    layer: Layer
    action: Action
    reason: str
    #: Of a patched layer, the bytes that the target lacked, before compression.
    new: int = 0
    #: Whether it comes with an earlier image of the same session, and counts there.
    shared: bool = False

    @property
    def lacking(self) -> int:
        """Bytes of the layer that the target lacked, and got for this image."""
        if self.shared:
            return 0
        return {Action.REUSE: 0, Action.SEND: self.layer.size, Action.PATCH: self.new}[self.action]


@dataclass(frozen=True, slots=True)
class Plan:
    image: Image
    steps: tuple[Step, ...]
    inventory: Inventory

    @property
    def wanted(self) -> frozenset[str]:
        """The diff IDs to send."""
        return frozenset(step.layer.diff_id for step in self.steps if step.action is not Action.REUSE)

    @property
    def _sent(self) -> dict[str, Step]:
        """By diff ID: an archive holds a layer that the image has twice only once."""
        return {step.layer.diff_id: step for step in self.steps if step.action is not Action.REUSE}

    @property
    def sent(self) -> tuple[Layer, ...]:
        """The layers to send, each once."""
        return tuple(step.layer for step in self._sent.values())

    @property
    def shared(self) -> frozenset[str]:
        """The diff IDs of those that come with an earlier image."""
        return frozenset(step.layer.diff_id for step in self.steps if step.shared)

    @property
    def reused(self) -> tuple[Layer, ...]:
        return tuple(step.layer for step in self.steps if step.action is Action.REUSE)

    @property
    def delta(self) -> int:
        """Bytes of the layers to send, each counted once, and with the first image; as `Image.sizes_are` says."""
        return sum(step.layer.size for step in self._sent.values() if not step.shared)

    def after(self, others: "Sequence[Plan]") -> "Plan":
        """The plan, where some layers come with other images that are sent before, to the same target."""
        coming = {diff_id: other for other in reversed(others) for diff_id in other.wanted}

        def step(before: Step) -> Step:
            other = coming.get(before.layer.diff_id)
            if other is None or before.action is Action.REUSE:
                return before
            return replace(before, reason=f"it comes with {other.image.reference}", shared=True)

        return replace(self, steps=tuple(map(step, self.steps)))


def plan(image: Image, inventory: Inventory) -> Plan:
    """Decide for each layer of `image`, bottom first, whether the target's own copy will do.

    On a chain-keyed store only a prefix of the chain may be left out: the engine opens the first layer file that it
    lacks, and from there on all of them (moby, image/tarexport: `LoadImage` looks each chain ID up before it opens a
    layer). A diff ID that is sent once serves all its positions, so it is sent everywhere.
    """
    steps = []
    below = True
    for layer in image.layers:
        action, reason = _judge(layer, inventory, below=below)
        below = below and action is Action.REUSE
        steps.append(Step(layer, action, reason))
    return Plan(image, tuple(steps), inventory)


def complete(image: Image) -> Plan:
    """The plan for a target that has this very image."""
    return Plan(
        image, tuple(Step(layer, Action.REUSE, "the target has the image") for layer in image.layers), Inventory()
    )


def whole(before: Plan, layers: Collection[str], why: str) -> Plan:
    """The plan, which tells why some of the layers to send go whole and not as patches."""
    steps = (
        replace(step, reason=f"{step.reason}; whole, {why}")
        if step.action is Action.SEND and step.layer.diff_id in layers
        else step
        for step in before.steps
    )
    return replace(before, steps=tuple(steps))


def _judge(layer: Layer, inventory: Inventory, *, below: bool) -> tuple[Action, str]:
    if layer.diff_id in inventory.blobs:
        known = ": ".join(filter(None, (inventory.blobs[layer.diff_id].digest, inventory.why.get(layer.diff_id))))
        return Action.REUSE, f"the target has it as {known}"
    if layer.diff_id in inventory.diff_ids:
        return Action.REUSE, "the target has it in another image"
    if below and layer.chain_id in inventory.chain_ids:
        return Action.REUSE, "the target has it with all layers below"
    if layer.diff_id in inventory.unnamed:
        return Action.SEND, "the target has it, but not the digest of its blob"
    return Action.SEND, inventory.why.get(layer.diff_id, "the target lacks it")
