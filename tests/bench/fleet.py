"""A fleet behind one slow uplink: pushes to each of its hosts, beside one to its registry, out of which the hosts pull.

The site is a network of its own behind one link, with a limit and a relay as in `bench.links`; bytes are those of its
interface. In it are a bastion, a registry that only the site reaches, a pull-through mirror of that, both with TLS, and
real engines, each on a machine with a root, processes, stores and an sshd of its own. These machines share the site's
network, where each sshd has a port, as behind a router that hands ports on; there is no limit between them. All that
goes to a host from here goes over the one link, whichever way it is pushed.
"""

import contextlib
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.growth import Run
from bench.links import LINKS, joined, limited, seen
from bench.meter import Measured
from bench.results import DIRECT, SPREAD, Point, duration
from bench.verify import failure
from bench.ways import JOBS, Ours
from rig import Engine, Rig, RigError

COUNTS = (1, 2, 5, 10, 20)
#: With small images.
FEW = (1, 3, 6)
KIND = "docker28-overlay2"
LINK = LINKS["10 mbit, 40 ms"]
#: What the links of the results call it.
SITE = "a site"
WAYS = {DIRECT: "layerferry to each host", SPREAD: "layerferry to the registry, and each host pulls"}
#: Seconds; what takes longer is run once.
_LONG = 60.0
#: The name that all hosts have, in the repository that changes go to.
_BASE = "app:1"


class Site:
    """So many hosts, a bastion, and what is between them."""

    def __init__(self, rig: Rig, hosts: int) -> None:
        self.rig = rig
        self.bastion = rig.engine(KIND, name="bastion", isolated=True)
        machine = self.bastion.machine
        self.registry = rig.hidden_registry(machine, "registry.site", encrypted=True)
        self.mirror = rig.hidden_registry(machine, "mirror.site", encrypted=True, mirrored=self.registry)
        self._known = machine.path("/etc/hosts").read_text()
        with ThreadPoolExecutor(4) as pool:
            self.hosts = list(pool.map(self._host, range(1, hosts + 1)))

    def _host(self, number: int) -> Engine:
        """A host that knows the mirror, and trusts it."""
        host = self.rig.engine(KIND, name=f"node{number}", beside=self.bastion.machine)
        host.machine.write("/etc/hosts", self._known)
        authority = (self.mirror.state / "tls/ca.pem").read_text()
        host.machine.write(f"/etc/docker/certs.d/{self.mirror.address}/ca.crt", authority)
        return host

    @contextlib.contextmanager
    def far(self) -> Iterator[dict[str, str]]:
        """While it lasts, the site is as far away as the link says; aliases by the names of bastion and hosts."""
        with joined([self.bastion, *self.hosts], LINK) as aliases, limited([self.bastion], LINK):
            yield aliases


class Fleet:
    """The pushes to a site that are measured. No two are of the same bytes, so that nothing has to be emptied."""

    def __init__(self, run: Run, site: Site) -> None:
        self.run = run
        self.site = site
        self.ours = Ours(run.rig, run.yard.source)
        self._number = 1

    def begin(self) -> None:
        """All hosts get the base out of the registry, by the way that is measured later."""
        self.run.yard.build(_BASE, "scratch", self.run.options.sizes.site * 1000)
        hosts = self.site.hosts
        aliases = {engine.name: engine.ssh_alias for engine in (self.site.bastion, *hosts)}
        took = self.run.measured(self.script(SPREAD, _BASE, hosts, aliases), [self.site.bastion])
        if wrong := self._wrong(took, _BASE, hosts):
            raise RigError(f"the hosts do not get their base: {wrong}")

    def script(self, way: str, name: str, hosts: Sequence[Engine], aliases: Mapping[str, str]) -> str:
        """One command, whichever way."""
        there = [aliases[host.name] for host in hosts]
        if way == DIRECT:
            return self.ours.script([name], there)
        registry, pulled = self.site.registry, f"{self.site.mirror.address}/{name}"
        words = [self.ours.program, "push", name, f"registry://{registry.address}", "--via", aliases["bastion"]]
        words += [word for alias in there for word in ("--then-on", alias)]
        words += ["--then", f"docker pull -q {pulled} && docker tag {pulled} {name}", "--jobs", str(JOBS), "--json"]
        return f"SSL_CERT_FILE={registry.state}/tls/ca.pem exec {shlex.join(words)}"

    def measure(self, push: str, below: str, size: int, hosts: Sequence[Engine]) -> None:
        """An image with a new layer of so many kB on what is `below`, both ways in turn."""
        took: dict[str, list[Measured]] = {way: [] for way in WAYS}
        wrong = dict.fromkeys(WAYS, "")
        for run in range(self.run.options.runs):
            for way in WAYS:
                if run and (wrong[way] or took[way][0].seconds > _LONG):
                    continue
                self._number += 1
                name = f"{'app' if below == _BASE else 'cold'}:{self._number}"
                self.run.yard.build(name, below, size)
                took[way].append(self._once(way, name, hosts))
                wrong[way] = self._wrong(took[way][-1], name, hosts)
                self._forget(name)
        self._keep([_point(push, len(hosts), way, took[way], wrong[way]) for way in WAYS])

    def _once(self, way: str, name: str, hosts: Sequence[Engine]) -> Measured:
        with self.site.far() as aliases:
            return self.run.measured(self.script(way, name, hosts, aliases), [self.site.bastion])

    def _wrong(self, took: Measured, name: str, hosts: Sequence[Engine]) -> str:
        """What is wrong with the image on one of the hosts, if on any; or with the push itself."""
        if took.code:
            return f"exit code {took.code}: {took.stderr.strip()[-300:]}"
        shown = ((host.name, failure(self.run.yard.source, host, [name])) for host in hosts)
        return next((f"{host}: {wrong}" for host, wrong in shown if wrong), "")

    def _forget(self, name: str) -> None:
        """Remove it everywhere but in the registries, so that each push finds the base and no more."""
        for engine in (self.run.yard.source, *self.site.hosts):
            with contextlib.suppress(RigError):
                engine.api.delete([f"/images/{engine.inspect(name)['Id']}?force=1"])

    def _keep(self, found: Sequence[Point]) -> None:
        self.run.results.fleet += found
        self.run.results.write(self.run.file)
        for point in found:
            says = point.failure or f"{point.sent:,} B sent, {point.heard:,} B heard"
            seconds = duration(point.seconds)
            print(f"fleet: {point.count:>3} hosts  {point.what:<12} {point.way:<7} {seconds:>8} {says}", flush=True)


def _point(push: str, hosts: int, way: str, took: Sequence[Measured], wrong: str) -> Point:
    def median(name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in took))

    memory, sent, heard = max(one.memory for one in took), int(median("sent")), int(median("heard"))
    return Point(
        "fleet", push, hosts, way, len(took), median("seconds"), sent=sent, heard=heard, memory=memory, failure=wrong
    )


def measure_fleet(run: Run, counts: Sequence[int]) -> None:
    """A small change, a larger one, and a whole image, each to so many hosts, and both ways."""
    sizes = run.options.sizes
    pushes = {
        f"{sizes.code} kB of code": (_BASE, sizes.code),
        f"{sizes.module} MB of code": (_BASE, sizes.module * 1000),
        f"cold, {sizes.site} MB": ("scratch", sizes.site * 1000),
    }
    have = {(found.what, found.count) for found in run.results.fleet}
    left = [(push, count) for count in sorted(set(counts)) for push in pushes if (push, count) not in have]
    if not left:
        return
    run.results.ways.update(WAYS)
    site = Site(run.rig, left[-1][1])
    run.results.links[:] = [row for row in run.results.links if row["target"] != SITE]
    run.results.links.append(seen(site.bastion, LINK) | {"target": SITE})
    fleet = Fleet(run, site)
    fleet.begin()
    for push, count in left:
        fleet.measure(push, *pushes[push], site.hosts[:count])
