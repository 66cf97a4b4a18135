"""The nodes that run what follows a push to registries: hosts that pull from these, each in a session of its own."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from layerferry.errors import HALTED, SIGNALS_WAIT, FollowError, LayerferryError, interruption
from layerferry.events import Emit, Stalled
from layerferry.push.follow_up import After, FollowUp
from layerferry.push.following import Followed, Named, follow, foresee, not_done
from layerferry.push.request import Options
from layerferry.result import Result
from layerferry.targets.address import Target
from layerferry.targets.conversation import Conversation
from layerferry.targets.host.script import ON_NODES


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of `options`; `pause` waits before a further try to connect, and is False where there is to be none."""

    options: Options
    wanted: FollowUp
    emit: Emit
    pause: Callable[[Target, LayerferryError, int, threading.Event], bool]
    #: Set where a signal ends it: nobody connects any more.
    ended: threading.Event = field(default_factory=threading.Event)

    def follow(self, results: Sequence[Result], hosts: Sequence[Result] = ()) -> list[Result]:
        """Do what follows, where the registries of all results have the images; the results with what became of it.

        `hosts` are the results of those that have done it in their own sessions.
        """
        if self.options.dry_run:
            for node in self.options.nodes:
                foresee(self.options, node.name, self.emit)
            return list(results)
        if why := self._why_not(results, hosts):
            return [result if result.error else _with(result, [not_done(result.target, why)]) for result in results]
        named = [Named(name, result.image_id) for result in results for name in result.names]
        followed: list[Followed] = []
        try:
            (self._in_order if self.wanted.after is After.ONE_BY_ONE else self._together)(named, followed)
        except BaseException as raised:
            if (error := interruption(raised)) is None:
                raise
            followed.append(Followed(error=error))
        return [_with(result, followed) for result in results]

    def _why_not(self, registries: Sequence[Result], hosts: Sequence[Result]) -> str:
        """Why nothing may follow, or nothing. How hosts fared counts where the nodes wait for others, as hosts do."""
        failed = {result.target: result.error for result in (*registries, *hosts) if result.error}
        if any(isinstance(error, HALTED) for error in failed.values()):
            return "the push was broken off"
        if missing := next((result.target for result in registries if result.error), ""):
            return f"{missing} has not got the image"
        for target, error in failed.items():
            if self.wanted.after is After.ONE_BY_ONE:
                return f"it failed on {target}, which comes before"
            if self.wanted.after is After.ALL and not isinstance(error, FollowError):
                return f"{target} has not got the image"
        return ""

    def _in_order(self, named: Sequence[Named], followed: list[Followed]) -> None:
        for node in self.options.nodes:
            followed.append(self._on_one(node, named))
            if followed[-1].error:
                break

    def _together(self, named: Sequence[Named], followed: list[Followed]) -> None:
        nodes = self.options.nodes
        with ThreadPoolExecutor(min(self.options.jobs, len(nodes))) as pool:
            runs: list[Future[Followed]] = []
            try:
                runs += (pool.submit(self._on_one, node, named) for node in nodes)
                while wait(runs, SIGNALS_WAIT).not_done:
                    pass
            except BaseException:
                self.ended.set()
                for node in nodes:
                    node.connect.hang_up()
                raise
            finally:
                followed += [run.result() for run in runs if run.done()]

    def _on_one(self, node: Target, named: Sequence[Named]) -> Followed:
        """Connect, where need be again and again; what has begun is not begun again."""
        tries = 0
        while True:
            try:
                with node.connect() as conduit:
                    told = lambda text: self.emit(Stalled(node.name, text))  # noqa: E731
                    conversation = Conversation(conduit, told=told, also=ON_NODES)
                    conversation.ask(())
                    conversation.greeting()
                    return follow(conversation, self.wanted, named, self.emit, lambda: "")
            except LayerferryError as error:
                if (
                    tries == self.options.retries
                    or not error.transient
                    or not self.pause(node, error, tries, self.ended)
                ):
                    return not_done(node.name, error.message)
                tries += 1
                node.connect.renew()


def _with(result: Result, followed: Sequence[Followed]) -> Result:
    ran = tuple(ran for one in followed for ran in one.ran)
    error = next((one.error for one in followed if one.error), None)
    return replace(result, ran=ran, error=error)
