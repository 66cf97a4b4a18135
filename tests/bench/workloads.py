"""What is pushed: images on the source, and what a target has before each push."""

import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import package_layers
from bench.ways import FIXED, LoadAlone, Ours, Way
from rig import Engine, Image, Layer, Noise, Rig, Text

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """In MB, half of each noise and half of it text, which shrinks to a quarter; `code` in kB.

    `module` and `site` are of the fleet behind one uplink.
    """

    base: int = 700
    tools: int = 160
    dependencies: int = 40
    cold: int = 300
    shared: int = 200
    fleet: int = 100
    hosts: int = 20
    code: int = 10
    module: int = 1
    site: int = 20


QUICK = Sizes(base=16, tools=8, dependencies=4, cold=12, shared=6, fleet=4, hosts=6, site=4)


class Yard:
    """Source, targets, and images between them."""

    def __init__(self, rig: Rig, source: Engine, sizes: Sizes) -> None:
        self.rig = rig
        self.source = source
        self.sizes = sizes
        self.number = 0
        self.base = ""
        self._registry = rig.registry()

    @property
    def environment(self) -> dict[str, str]:
        """A user's who has set no variable of ours: what pydantic-settings reads takes 0.1 s to load (python 3.11)."""
        ours = {name: value for name, value in self.rig.environment.items() if not name.startswith("LAYERFERRY_")}
        return ours | {"DOCKER_HOST": self.source.host}

    def layers(self, name: str, size: int, count: int) -> list[Layer]:
        """So many layers of `size` MB in all."""
        part = size * MB // count // 2
        return [
            self.rig.workshop.layer(
                {f"{name}/{n}/noise": Noise(part, f"{name} {n}"), f"{name}/{n}/text": Text(part, f"{name} {n}")}
            )
            for n in range(count)
        ]

    def prepare(self) -> None:
        """Let the source pull a base, whose layers another gzip than docker's has compressed."""
        if not self.base:
            image = self.rig.workshop.image(self.layers("base", self.sizes.base, 10))
            self.base = self._registry.push("base:1", image, compression="gzip-6")
            self.source.docker("pull", "--quiet", self.base)

    def give_base(self, target: Engine) -> None:
        """Let a target pull it from the same registry, and have nothing else.

        Its stores are emptied: an engine knows by which digests it has pulled a layer after the image is gone, too.
        """
        target.reset()
        port = self._registry.port
        forward = ["ssh", "-F", str(target.client.config), "-o", "ExitOnForwardFailure=yes"]
        pull = ["-R", f"{port}:127.0.0.1:{port}", target.ssh_alias, f"docker pull --quiet {self.base}"]
        subprocess.run([*forward, *pull], check=True, stdout=subprocess.DEVNULL)

    def build(self, name: str, below: str, size: int) -> str:
        """A new image with one more layer of so many kB, built by the source."""
        self.number += 1
        noise = b"".join(Noise(size * 500, f"{name} {self.number}").chunks())
        text = b"".join(Text(size * 500, f"{name} {self.number}").chunks())
        files = {"noise": noise, "text": text}
        self.source.build(name, f"FROM {below}\nCOPY noise text /srv/change/\n", files)
        return name

    def load(self, images: dict[str, Image], *engines: Engine) -> Path:
        """Give engines images by name; returns their archive."""
        archive = self.rig.workshop.archive(images)
        for engine in engines:
            engine.load(archive)
        return archive

    def quiet_push(self, way: Way, name: str, targets: Sequence[Engine]) -> None:
        """A push that is not measured, over the link without a limit."""
        for target in targets:
            command = ["bash", "-c", way.script([name], [target.ssh_alias])]
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{way.label}: {shlex.join(command)}: {done.stderr[-500:]}")


class Workload(ABC):
    """Something to push. Before each push `ready` makes it so that a target has what it has to have."""

    key: str
    title: str
    #: Ways of all that are for it alone, or for some others: floors, and whole layers.
    special: tuple[str, ...] = ()
    #: Whether no other way than those is for it.
    alone = False
    #: The links that tell something; all where it is empty.
    links: tuple[str, ...] = ()
    #: How many aliases lead to the targets, where there is more than one target.
    hosts: int = 0

    def __init__(self, yard: Yard) -> None:
        self.yard = yard

    def begin(self, ways: Sequence[Way], targets: Sequence[Engine]) -> None:  # noqa: B027 - most need nothing
        """Once for each target: what comes before the first push."""

    @abstractmethod
    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        """The names to push."""


class Unchanged(Workload):
    key = "unchanged"
    title = "unchanged"
    special = ("bare",)

    def begin(self, ways: Sequence[Way], targets: Sequence[Engine]) -> None:
        """Each way has a name of its own, and pushes the image under it."""
        self.yard.prepare()
        for target in targets:
            self.yard.give_base(target)
        image = self.yard.build("unchanged/app:1", self.yard.base, self.yard.sizes.code)
        for way in ways:
            way.forget()
            name = self._name(way)
            self.yard.source.docker("tag", image, name)
            first = way if way.remembers else Ours(self.yard.rig, self.yard.source)
            self.yard.quiet_push(first, name, targets)

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        return [self._name(way)]

    @staticmethod
    def _name(way: Way) -> str:
        return f"unchanged/{way.key}:1"


class FirstCode(Workload):
    key = "code-first"
    title = "10 kB of code, the way's first push"

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        self.yard.prepare()
        for target in targets:
            self.yard.give_base(target)
        way.forget()
        return [self.yard.build(f"first/{way.key}:1", self.yard.base, self.yard.sizes.code)]


class NextCode(Workload):
    key = "code"
    title = "10 kB of code, its next push"
    below = ""
    size = 0

    def begin(self, ways: Sequence[Way], targets: Sequence[Engine]) -> None:
        """A first version goes there by each way that profits from it."""
        self.yard.prepare()
        for target in targets:
            self.yard.give_base(target)
        self.below, self.size = self.yard.base, self.yard.sizes.code
        self.lay_ground()
        for way in ways:
            way.forget()
            first = way if way.remembers else Ours(self.yard.rig, self.yard.source)
            self.yard.quiet_push(first, self._build(way), targets)

    def lay_ground(self) -> None:
        """What else is under the layer that changes."""

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        return [self._build(way)]

    def _build(self, way: Way) -> str:
        return self.yard.build(f"{self.key}/{way.key}:1", self.below, self.size)


class Dependencies(NextCode):
    key = "dependencies"
    title = "dependencies of a large image"

    def __init__(self, yard: Yard) -> None:
        super().__init__(yard)
        sizes = yard.sizes
        self.title = f"{sizes.dependencies} MB of dependencies in {sizes.base + sizes.tools + sizes.dependencies} MB"

    def lay_ground(self) -> None:
        sizes = self.yard.sizes
        self.below = self.yard.build("dependencies/tools:1", self.yard.base, sizes.tools * 1000)
        self.size = sizes.dependencies * 1000


class Cold(Workload):
    """An image of `size` MB in so many `layers`, of which a target has nothing."""

    key = "cold"
    special = ("load",)
    layers = 5

    def __init__(self, yard: Yard) -> None:
        super().__init__(yard)
        self.size = yard.sizes.cold
        self.title = f"cold, {self.size} MB"
        self._archive: Path | None = None

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        name = f"{self.key}:1"
        if not self._archive:
            image = self.yard.rig.workshop.image(self.yard.layers(self.key, self.size, self.layers))
            self._archive = self.yard.load({f"docker.io/library/{name}": image}, self.yard.source)
        for target in targets:
            target.clear()
        way.forget()
        if isinstance(way, LoadAlone):
            way.files, way.target = {name: self._archive}, targets[0]
        return [name]


class Eight(Workload):
    """Eight images, each with 1 MB of its own on a base that the target lacks, too."""

    key = "eight"
    count = 8

    def __init__(self, yard: Yard) -> None:
        super().__init__(yard)
        self.title = f"{self.count} images that share {yard.sizes.shared} MB, cold"
        self._names: list[str] = []

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        if not self._names:
            shared = self.yard.layers("shared", self.yard.sizes.shared, 4)
            images = {
                f"docker.io/library/eight-{n}:1": self.yard.rig.workshop.image(
                    [*shared, *self.yard.layers(f"eight {n}".replace(" ", "-"), 1, 1)]
                )
                for n in range(self.count)
            }
            self.yard.load(images, self.yard.source)
            self._names = [name.removeprefix("docker.io/library/") for name in images]
        for target in targets:
            target.clear()
        way.forget()
        return self._names


class Packages(Workload):
    """A layer of `pip install` or `npm install`, rebuilt with a few other versions, over the old one."""

    special = ("load", "layerferry-whole")
    links = ("unshaped", "100 mbit", "10 mbit, 40 ms", "2 mbit, 150 ms")

    def __init__(self, yard: Yard, layer: str) -> None:
        super().__init__(yard)
        self.key = layer
        self.title = f"rebuilt layer of {layer}"
        self._archives: list[Path] = []

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        name, shop = f"{self.key}:1", self.yard.rig.workshop
        if not self._archives:
            below = shop.layer({"etc/base": b"base"})
            for number in (0, 1):
                layer = shop.raw_layer(package_layers.tar_of(self.key, number).read_bytes())
                images = {f"docker.io/library/{name}": shop.image([below, layer])}
                self._archives.append(self.yard.load(images, *([self.yard.source] if number else [])))
        for target in targets:
            target.clear()
            target.load(self._archives[0])
        way.forget()
        if isinstance(way, LoadAlone):
            way.files, way.target = {name: self._archives[1]}, targets[0]
        return [name]


class Levels(Workload):
    """A layer of `pip install` that a target lacks, as it goes by itself and in each fixed compression."""

    key = "levels"
    title = "a layer of pip, cold, by compression"
    special = (Ours.key, *FIXED)
    alone = True
    _is_loaded = False

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        name = f"{self.key}:1"
        if not self._is_loaded:
            layer = self.yard.rig.workshop.raw_layer(package_layers.tar_of("pip", 0).read_bytes())
            self.yard.load({f"docker.io/library/{name}": self.yard.rig.workshop.image([layer])}, self.yard.source)
            self._is_loaded = True
        for target in targets:
            target.clear()
        return [name]


class ColdFleet(Cold):
    key = "fleet-cold"
    special = ("bare",)
    links = ("unshaped",)
    layers = 2

    def __init__(self, yard: Yard) -> None:
        super().__init__(yard)
        self.hosts, self.size = yard.sizes.hosts, yard.sizes.fleet
        self.title = f"{self.hosts} targets, cold, {self.size} MB"

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        names = super().ready(way, targets)
        if way.key == "bare":
            self.yard.quiet_push(Ours(self.yard.rig, self.yard.source), names[0], targets)
        return names


class NextFleet(NextCode):
    key = "fleet-code"
    special = ("bare",)
    links = ("unshaped",)

    def __init__(self, yard: Yard) -> None:
        super().__init__(yard)
        self.hosts = yard.sizes.hosts
        self.title = f"{self.hosts} targets, 10 kB of code"

    def ready(self, way: Way, targets: Sequence[Engine]) -> list[str]:
        if way.key == "bare":
            return [f"{self.key}/{way.key}:1"]
        return super().ready(way, targets)


ALL = ("unchanged", "code-first", "code", "dependencies", "cold", "eight", *package_layers.LAYERS)
FLEETS = ("fleet-cold", "fleet-code")
#: All that can be asked for.
KINDS = (*ALL, Levels.key, *FLEETS)


def made(yard: Yard, key: str) -> Workload:
    if key in package_layers.LAYERS:
        return Packages(yard, key)
    kinds: tuple[type[Workload], ...] = (
        Unchanged,
        FirstCode,
        NextCode,
        Dependencies,
        Cold,
        Eight,
        Levels,
        ColdFleet,
        NextFleet,
    )
    (kind,) = (kind for kind in kinds if kind.key == key)
    return kind(yard)
