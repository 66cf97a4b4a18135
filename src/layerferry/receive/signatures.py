"""The signatures of a session: whose they are, what they are about, and what they allow.

A policy may name signers; then no image gets a name but by statements, of as many signers as it requires, on just that
image and that name. Each source of the policy that names signers must be satisfied.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from layerferry.oci.image import Name, Platform
from layerferry.protocol import Fact
from layerferry.receive import strict_json
from layerferry.receive.allowed_signers import AllowedSigners, Signer, SignerRefusal, count
from layerferry.receive.decision_log import DecisionLog
from layerferry.receive.newest_accepted import Accepted, NewestStatements
from layerferry.receive.policy import Policy
from layerferry.receive.refusal import Refusal
from layerferry.signing.sshsig import SignedStatement
from layerferry.signing.statement import Statement, StatementError

#: Of one session: two for each of its images.
MOST = 128
#: Seconds by which a signer's clock may be ahead of ours.
_AHEAD = 300


@dataclass(frozen=True, slots=True)
class Checked:
    """A statement with its signer, as each source of the policy knows him: None where it does not."""

    statement: Statement
    signers: tuple[Signer | None, ...]


@dataclass(slots=True)
class Signatures:
    """The signatures that a client has shown, and the names that they allow. Times are seconds since 1970."""

    policy: Policy
    sources: Sequence[AllowedSigners]
    #: None where an older image may come back.
    memory: NewestStatements | None
    decisions: DecisionLog
    now: Callable[[], float] = time.time
    _checked: list[Checked] = field(default_factory=list)
    #: By full name.
    _accepted: dict[str, Accepted] = field(default_factory=dict)
    _taken: int = 0

    def facts(self) -> list[str]:
        """The lines of the greeting, beside the capability."""
        return [f"{Fact.SIGNATURES} {self.policy.require}"]

    def take(self, statement: str, signature: str) -> None:
        """Check a signature, as the client's two words; raises `Refusal`."""
        self._taken += 1
        if self._taken > MOST:
            raise Refusal(f"there are more than {MOST} signatures")
        try:
            signed = SignedStatement.read_words(statement, signature, _parsed)
        except StatementError as error:
            raise Refusal(str(error)) from None
        self._in_time(signed.statement)
        signers = self._signers(signed)
        self._checked.append(Checked(signed.statement, signers))
        self.decisions.write(
            "signed",
            principals=sorted({signer.principal for signer in signers if signer}),
            keys=sorted({signer.key for signer in signers if signer}),
            image=signed.statement.config,
            names=list(signed.statement.names),
            created=signed.statement.created,
        )

    def _signers(self, signed: SignedStatement) -> tuple[Signer | None, ...]:
        found: list[Signer | None] = []
        refusals: list[SignerRefusal] = []
        for source in self.sources:
            try:
                found.append(source.verify(signed))
            except SignerRefusal as refusal:
                found.append(None)
                refusals.append(refusal)
        for told in refusals:
            self.decisions.write("not a signer", text=told.message, said=told.said, image=signed.statement.config)
        if not any(found):
            raise refusals[0]
        return tuple(found)

    def _in_time(self, statement: Statement) -> None:
        now = self.now()
        if statement.created > now + _AHEAD:
            raise Refusal("the statement was made in the future: see to the clocks")
        if statement.expires and statement.expires <= now:
            raise Refusal("the statement has expired")
        oldest = self.policy.max_signature_age
        if oldest is not None and statement.created < now - oldest:
            raise Refusal(f"the statement is older than {oldest:g} s, which is too old here")

    def admit(self, ids: Sequence[str], diff_ids: Sequence[str], platform: Platform) -> None:
        """Raise `Refusal` unless an image may get some name at all: else the engine need not see it.

        The first of its `ids` is its config's digest.
        """
        config = ids[0]
        about = self._about(config, diff_ids, platform)
        signed = {name for checked in about for name in checked.statement.names}
        names = sorted(name for name in signed if self.policy.names(Name.parse(name), *ids))
        refusal = Refusal(f"the image {config} is signed for no name that is allowed here")
        for name in names:
            try:
                self._check(name, about)
            except Refusal as error:
                refusal = error
            else:
                return
        raise refusal

    def allow(self, name: str, config: str, diff_ids: Sequence[str], platform: Platform | None = None) -> None:
        """Raise `Refusal` unless an image may get a full name, which it is then about to."""
        self._accepted[name] = self._check(name, self._about(config, diff_ids, platform))

    def _about(self, config: str, diff_ids: Sequence[str], platform: Platform | None) -> list[Checked]:
        """The statements on an image."""
        named = [checked for checked in self._checked if checked.statement.config == config]
        if not named:
            other = "signatures are of another image" if self._checked else "image is not signed"
            raise Refusal(f"the {other}, and {config or 'its config'} must be, here")
        about = [checked for checked in named if checked.statement.is_of(config, diff_ids)]
        if not about:
            raise Refusal(f"the image {config} was signed with other layers")
        about = [checked for checked in about if checked.statement.is_of(config, diff_ids, platform)]
        if not about:
            raise Refusal(f"the image {config} was signed for another platform")
        return about

    def _check(self, name: str, about: Sequence[Checked]) -> Accepted:
        for checked in about:
            self._in_time(checked.statement)
        meant = [checked for checked in about if name in checked.statement.names]
        if not meant:
            raise Refusal(f"the image was not signed for the name {name}")
        signers = min(count(_of(meant, number)) for number in range(len(self.sources)))
        if signers < self.policy.require:
            raise Refusal(f"{name} needs the signatures of {self.policy.require} signers, and has those of {signers}")
        made = [checked.statement.created for checked in meant]
        accepted = Accepted(meant[0].statement.config, min(made), max(made))
        if self.memory:
            self.memory.check(name, accepted)
        return accepted

    def remembered(self) -> AbstractContextManager[None]:
        """Remember what is accepted, for the names that are given while this lasts."""
        return self.memory.accept(self._accepted) if self.memory else contextlib.nullcontext()

    @property
    def signers(self) -> dict[str, list[str]]:
        """The principals whose word each name is given on."""
        return {
            name: sorted({signer.principal for signer in self._all(name, accepted.config)})
            for name, accepted in self._accepted.items()
        }

    def _all(self, name: str, config: str) -> Iterator[Signer]:
        for checked in self._checked:
            if checked.statement.config == config and name in checked.statement.names:
                yield from filter(None, checked.signers)


def _of(checked: Iterable[Checked], number: int) -> Iterator[Signer]:
    return filter(None, (one.signers[number] for one in checked))


def _parsed(data: bytes) -> object:
    return strict_json.parse(data, "the statement")


def open_signatures(
    policy: Policy, program: str, environment: Mapping[str, str], decisions: DecisionLog
) -> Signatures | None:
    """The signatures of a session; None where the policy names no signers.

    Raises `Refusal`, before anything else is said, where signatures could not be checked.
    """
    if not policy.signs:
        return None
    revoked = policy.revoked()
    sources = [AllowedSigners(program, environment, path, revoked, policy.spool) for path in policy.signers()]
    if not program:
        raise Refusal("signatures cannot be checked: there is no ssh-keygen here")
    memory = None if policy.allow_rollback else NewestStatements(policy.memory)
    if memory:
        memory.look()
    return Signatures(policy, sources, memory, decisions)
