"""Clients who hold a deploy key, and no signer's: what each tries at a receiver that wants signed images."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import signed
from fuzz.bench import BASE_ID, Answer, Bench
from fuzz.shipment import BASE, INCOMING, NAME, Image, Shipment, digest, lines
from signed import Keys, document, dumped, line

KEY = "ed25519-signer"
HOUR = 3600


@dataclass
class Stage:
    """A host whose policy names a signer, and a client with what he signed: honest until a case bends it."""

    folder: Path
    keys: Keys
    shipment: Shipment = field(default_factory=Shipment)
    key: str | Path = KEY
    namespace: str = signed.NAMESPACE
    #: What is changed in the statement.
    changes: dict[str, Any] = field(default_factory=dict)
    #: The bytes that are signed and sent, where they are no statement that we would write.
    data: bytes | None = None
    #: The bytes that are sent, where they are not those that were signed.
    sent: bytes | None = None
    #: Lines in place of the one signature.
    lines: list[str] | None = None
    options: tuple[str, ...] = ()
    #: What runs before the client comes.
    before: list[Callable[[Bench], Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bench = Bench(self.folder)
        self.state = self.folder / "state"
        self.state.mkdir()
        self.signers = self.folder / "allowed_signers"
        self.allow(f"ann@example.com {self.keys.public(KEY)}")

    def allow(self, *texts: str) -> None:
        self.signers.write_text(signed.allowed(*texts))

    @property
    def image(self) -> Image:
        return self.shipment.images[0]

    def said(self, **changes: Any) -> bytes:
        return dumped(document(self.image, **{**self.changes, **changes}))

    def line(self, key: str | Path = "", **changes: Any) -> str:
        """A signature that is good."""
        data = self.said(**changes)
        return line(data, self.keys.sign(key or self.key, data))

    def session(self) -> bytes:
        data = self.said() if self.data is None else self.data
        ours = self.lines
        if ours is None:
            ours = [line(data if self.sent is None else self.sent, self.keys.sign(self.key, data, self.namespace))]
        expect = self.shipment.expect
        honest = [f"expect {image.incoming} {' '.join(image.diff_ids)}" for image in self.shipment.images]
        self.shipment.expect = [*ours, *(honest if expect is None else expect)]
        return self.shipment.session()

    def serve(self, *more: str) -> Answer:
        for happen in self.before:
            happen(self.bench)
        words = signed.words(self.signers, "--state", str(self.state), *self.options, *more)
        return self.bench.serve(self.session(), *words)


@dataclass(frozen=True)
class Case:
    """`expected` is a regular expression for the verdict."""

    name: str
    expected: str
    play: Callable[[Stage], Any]
    #: The image was taken; it gets no name.
    loads: bool = False


CASES: list[Case] = []


def case(expected: str, *, loads: bool = False) -> Callable[[Callable[[Stage], Any]], None]:
    def add(play: Callable[[Stage], Any]) -> None:
        CASES.append(Case(play.__name__.replace("_", " ").strip(), expected, play, loads))

    return add


def now() -> int:
    return int(time.time())


# Nothing, or something else, is signed.


@case("the image is not signed")
def unsigned(stage: Stage) -> None:
    stage.lines = []


@case("signatures are of another image")
def another_image_under_that_signature(stage: Stage) -> None:
    stage.changes = {"config": digest(b"the image that was signed")}


@case("was signed with other layers")
def other_layers_under_that_config(stage: Stage) -> None:
    stage.changes = {"diff_ids": [digest(b"other"), *stage.image.diff_ids[1:]]}


@case("was signed with other layers")
def the_same_layers_in_another_order(stage: Stage) -> None:
    stage.changes = {"diff_ids": stage.image.diff_ids[::-1]}


@case("was signed with other layers")
def a_layer_less_than_was_signed(stage: Stage) -> None:
    stage.changes = {"diff_ids": [*stage.image.diff_ids, digest(b"more")]}


@case("was not signed for the name docker.io/library/app:2", loads=True)
def a_signed_staging_image_as_another_tag(stage: Stage) -> None:
    stage.changes = {"names": ["docker.io/library/app:staging"]}


@case("is signed for no name that is allowed here")
def a_name_in_another_registry(stage: Stage) -> None:
    stage.changes = {"names": ["ghcr.io/library/app:2"]}


@case("was not signed for the name docker.io/library/app:3", loads=True)
def one_name_more_than_was_signed(stage: Stage) -> None:
    stage.shipment.then.insert(1, f"tag {INCOMING} docker.io/library/app:3")


@case("was signed for another platform")
def another_platform(stage: Stage) -> None:
    stage.changes = {"platform": "linux/arm64"}


@case("was signed for another platform")
def another_variant(stage: Stage) -> None:
    stage.shipment = Shipment([Image(bend_config=lambda config: config | {"variant": "v3"})])
    stage.changes = {"platform": "linux/amd64/v2"}


@case("was signed with other layers|signatures are of another image")
def a_signature_for_one_of_two_images(stage: Stage) -> None:
    other = "localhost/layerferry:00c0ffee00c0ffef"
    stage.shipment = Shipment([Image(), Image(layers=[b"other" * 200], incoming=other)])


@case("the image is not signed")
def an_image_that_is_there_and_only_gets_a_name(stage: Stage) -> None:
    stage.shipment.bend_all = lambda _: there(stage)


def there(stage: Stage, *texts: str) -> bytes:
    """A client who gives a name to an image that is there."""
    asked = [f"image {BASE_ID}", f"layer {digest(BASE)}", "end"]
    return stage.shipment.preamble + lines([*asked, *texts, f"tag {BASE_ID} {NAME}", "done"])


@case("was not signed for the name docker.io/library/app:2")
def an_image_that_is_there_under_a_name_that_is_not_signed(stage: Stage) -> None:
    ours = stage.line(config=BASE_ID, diff_ids=[digest(BASE)], names=["docker.io/library/app:1"])
    stage.shipment.bend_all = lambda _: there(stage, ours)


@case("was signed with other layers")
def an_image_that_is_there_with_layers_that_were_not_signed(stage: Stage) -> None:
    ours = stage.line(config=BASE_ID, diff_ids=[digest(b"other")])
    stage.shipment.bend_all = lambda _: there(stage, ours)


# Its time is over, or has not come.


@case("the statement has expired")
def expired(stage: Stage) -> None:
    stage.changes = {"created": now() - 2 * HOUR, "expires": now() - HOUR}


@case("which is too old here")
def too_old_for_the_policy(stage: Stage) -> None:
    stage.changes = {"created": now() - 2 * HOUR}
    stage.options = ("--max-signature-age", "1h")


@case("made in the future")
def of_the_future(stage: Stage) -> None:
    stage.changes = {"created": now() + HOUR}


@case("expires before it was made")
def an_end_before_its_beginning(stage: Stage) -> None:
    stage.changes = {"expires": 1}


def earlier(stage: Stage, created: int, name: str = NAME) -> Callable[[Bench], None]:
    """An image that was accepted before, whose statement is of another time."""

    def happen(_: Bench) -> None:
        first = Stage(stage.folder / "earlier", stage.keys)
        first.state, first.signers = stage.state, stage.signers
        first.shipment = Shipment([Image(layers=[b"newer" * 300])], then=[f"tag {INCOMING} {name}", "done"])
        first.changes = {"created": created, "names": [name]}
        assert first.serve().lines[-1] == "done"

    (stage.folder / "earlier").mkdir()
    return happen


@case("is not newer than one that was accepted here")
def a_replay_of_an_older_statement(stage: Stage) -> None:
    stage.before = [earlier(stage, now() - 30)]


@case("is not newer than one that was accepted here")
def another_image_of_the_very_same_second(stage: Stage) -> None:
    created = now() - 30
    stage.changes = {"created": created}
    stage.before = [earlier(stage, created)]


@case("no statement is accepted without a memory")
def after_the_memory_has_gone(stage: Stage) -> None:
    stage.state.rmdir()


@case("no statement is accepted without a memory")
def a_memory_that_is_no_folder(stage: Stage) -> None:
    stage.state.rmdir()
    stage.state.write_text("")


@case("no statement is accepted without a memory of the newest, .*: others can write it")
def a_memory_that_others_can_write(stage: Stage) -> None:
    stage.state.chmod(0o777)


@case("what was accepted is not JSON|cannot be read")
def a_memory_that_is_damaged(stage: Stage) -> None:
    def damage(_: Bench) -> None:
        for file in stage.state.glob("statement-*"):
            file.write_text("")

    stage.before = [earlier(stage, now() - HOUR), damage]


@case("what it has of docker.io/library/app:2 cannot be read")
def a_memory_of_another_name(stage: Stage) -> None:
    def damage(_: Bench) -> None:
        for file in stage.state.glob("statement-*"):
            file.write_text(file.read_text().replace("app:2", "app:9"))

    stage.before = [earlier(stage, now() - HOUR), damage]


# The signer is none.


@case("nobody who is allowed to sign")
def a_signer_who_is_not_allowed(stage: Stage) -> None:
    stage.key = "ed25519-mallory"


@case("nobody who is allowed to sign")
def no_signer_is_allowed(stage: Stage) -> None:
    stage.allow()


@case("the signer's key is revoked")
def revoked_in_a_list(stage: Stage) -> None:
    file = stage.folder / "revoked"
    file.write_text(stage.keys.public(KEY) + "\n")
    stage.options = ("--revoked", str(file))


@case("the signer's key is revoked")
def revoked_in_a_krl(stage: Stage) -> None:
    file = stage.folder / "krl"
    signed.keygen("-q", "-k", "-f", str(file), f"{stage.keys.private(KEY)}.pub")
    stage.options = ("--revoked", str(file))


@case("the signer's key is revoked")
def a_certificate_of_a_revoked_ca(stage: Stage) -> None:
    by_certificate(stage, "ed25519-run1", "-V", "-5m:+1h")
    file = stage.folder / "revoked"
    file.write_text(stage.keys.ca + "\n")
    stage.options = ("--revoked", str(file))


@case("signatures cannot be checked: .*krl: No such file")
def a_list_of_the_revoked_that_is_not_there(stage: Stage) -> None:
    stage.options = ("--revoked", str(stage.folder / "krl"))


@case("the signer's key is not valid yet")
def not_yet_valid(stage: Stage) -> None:
    stage.allow(f'ann@example.com valid-after="20990101Z" {stage.keys.public(KEY)}')


@case("the signer's key is valid no longer")
def valid_no_longer(stage: Stage) -> None:
    stage.allow(f'ann@example.com valid-before="20200101Z" {stage.keys.public(KEY)}')


@case("the signer's key is not for the namespace")
def a_key_for_another_namespace(stage: Stage) -> None:
    stage.allow(f'ann@example.com namespaces="git,file" {stage.keys.public(KEY)}')


@case("the signature is in the namespace 'git', not 'image@layerferry'")
def another_namespace(stage: Stage) -> None:
    stage.namespace = "git"


def by_certificate(stage: Stage, name: str, *options: str, ca: str = "ed25519-ca") -> None:
    stage.allow(f"*@ci.example.com cert-authority {stage.keys.ca}")
    stage.key = stage.keys.certificate(name, "run@ci.example.com", *options, ca=ca)


@case("the signer's certificate is not valid here and now")
def a_certificate_that_has_expired(stage: Stage) -> None:
    by_certificate(stage, "ed25519-run2", "-V", "-2h:-1h")


@case("the signer's certificate is not valid here and now")
def a_certificate_that_is_not_valid_yet(stage: Stage) -> None:
    by_certificate(stage, "ed25519-run3", "-V", "+1h:+2h")


@case("nobody who is allowed to sign")
def a_certificate_of_another_ca(stage: Stage) -> None:
    by_certificate(stage, "ed25519-run4", "-V", "-5m:+1h", ca="ed25519-otherca")


@case("the signer's certificate is not valid here and now")
def a_certificate_for_another_principal(stage: Stage) -> None:
    stage.allow(f"*@other.example.com cert-authority {stage.keys.ca}")
    stage.key = stage.keys.certificate("ed25519-run5", "run@ci.example.com", "-V", "-5m:+1h")


@case("the signer's certificate is not valid here and now|nobody who is allowed")
def a_certificate_of_a_host(stage: Stage) -> None:
    by_certificate(stage, "ed25519-run6", "-h", "-V", "-5m:+1h")


@case("nobody who is allowed to sign")
def the_key_of_a_ca_itself(stage: Stage) -> None:
    stage.allow(f"*@ci.example.com cert-authority {stage.keys.ca}")
    stage.key = "ed25519-ca"


@case("a principal that is no word")
def a_principal_that_looks_like_an_option(stage: Stage) -> None:
    stage.allow(f"* cert-authority {stage.keys.ca}")
    stage.key = stage.keys.certificate("ed25519-run7", "-Overify-time=19700101", "-V", "-5m:+1h")


# Two signers are required.


@case("needs the signatures of 2 signers, and has those of 1")
def one_signature_where_two_are_required(stage: Stage) -> None:
    stage.options = ("--require", "2")


def two(stage: Stage, *keys: str | Path) -> None:
    stage.options = ("--require", "2")
    stage.lines = [stage.line(key, created=now() - number - 60) for number, key in enumerate(keys)]


@case("needs the signatures of 2 signers, and has those of 1")
def two_signatures_of_one_key(stage: Stage) -> None:
    two(stage, KEY, KEY)


@case("needs the signatures of 2 signers, and has those of 1")
def two_keys_of_one_principal(stage: Stage) -> None:
    stage.allow(f"ann@example.com {stage.keys.public(KEY)}", f"ann@example.com {stage.keys.public('ecdsa-ann')}")
    two(stage, KEY, "ecdsa-ann")


@case("needs the signatures of 2 signers, and has those of 1")
def one_key_with_two_certificates(stage: Stage) -> None:
    stage.allow(f"*@ci.example.com cert-authority {stage.keys.ca}")
    stage.options = ("--require", "2")
    stage.lines = []
    for name in ("one@ci.example.com", "two@ci.example.com"):
        stage.lines.append(stage.line(stage.keys.certificate("ed25519-run8", name, "-V", "-5m:+1h")))


@case("needs the signatures of 2 signers, and has those of 1")
def two_signers_of_whom_one_has_signed_another_name(stage: Stage) -> None:
    stage.allow(f"ann@example.com {stage.keys.public(KEY)}", f"bob@example.com {stage.keys.public('ecdsa-bob')}")
    stage.options = ("--require", "2")
    stage.lines = [stage.line(KEY), stage.line("ecdsa-bob", names=["docker.io/library/app:staging"])]


@case("needs the signatures of 2 signers, and has those of 1")
def a_second_file_of_signers_that_does_not_know_one(stage: Stage) -> None:
    """Each source must be satisfied: the command line does not loosen what another file says."""
    policy = stage.folder / "receive.toml"
    strict = stage.folder / "strict"
    strict.write_text(f"ann@example.com {stage.keys.public(KEY)}\n")
    policy.write_text(f'signers = "{strict}"\nrequire = 2\nstate = "{stage.state}"\n')
    stage.allow(f"ann@example.com {stage.keys.public(KEY)}", f"bob@example.com {stage.keys.public('ecdsa-bob')}")
    stage.lines = [stage.line(KEY), stage.line("ecdsa-bob")]
    stage.options = ("--policy", str(policy))


# The statement, or the signature, is bent.


@case("the signature is not over this statement")
def a_statement_that_was_changed_after_it_was_signed(stage: Stage) -> None:
    stage.data = stage.said(names=["docker.io/library/app:staging"])
    stage.sent = stage.said()


def bent(stage: Stage, bend: Callable[[bytes], bytes]) -> None:
    stage.data = bend(stage.said())


@case("JSON that can be read in just one way")
def a_key_that_comes_twice(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b'"names":', b'"names":["docker.io/library/app:9"],"names":'))


@case("does not say just what it should")
def a_key_in_another_case_beside_it(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b',"platform"', b',"NAMES":["docker.io/library/app:9"],"platform"'))


@case("does not say just what it should")
def a_key_that_we_do_not_know(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b'{"config"', b'{"Config":"x","config"'))


@case("does not say just what it should")
def a_key_that_is_missing(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b',"expires":0', b""))


@case("not in its canonical form")
def spaces_in_it(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b":0,", b": 0,"))


@case("not in its canonical form")
def keys_in_another_order(stage: Stage) -> None:
    bent(stage, lambda data: b'{"version":1,' + data[1:].replace(b',"version":1', b""))


@case("not in its canonical form")
def an_escape_for_a_letter(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b"app:2", b"\\u0061pp:2"))


@case("not in its canonical form")
def no_newline_at_its_end(stage: Stage) -> None:
    bent(stage, bytes.rstrip)


@case("JSON that can be read in just one way")
def a_second_statement_behind_it(stage: Stage) -> None:
    bent(stage, lambda data: data + data)


@case("a value of another kind")
def a_number_with_a_fraction(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b'"expires":0', b'"expires":0.0'))


@case("a value of another kind")
def true_for_one(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b'"version":1', b'"version":true'))


@case("JSON that can be read in just one way|another kind|a time that is none")
def a_number_of_5000_digits(stage: Stage) -> None:
    bent(stage, lambda data: data.replace(b'"expires":0', b'"expires":' + b"9" * 5000))


@case("of another version")
def another_version(stage: Stage) -> None:
    stage.changes = {"version": 2}


@case("a time that is none")
def a_time_before_all(stage: Stage) -> None:
    stage.changes = {"created": -1}


@case("names that are not full, sorted and each there once")
def a_name_without_its_registry(stage: Stage) -> None:
    stage.changes = {"names": ["app:2"]}


@case("names that are not full, sorted and each there once")
def a_name_that_comes_twice(stage: Stage) -> None:
    stage.changes = {"names": [NAME, NAME]}


@case("names that are not full, sorted and each there once")
def a_pattern_for_a_name(stage: Stage) -> None:
    stage.changes = {"names": ["docker.io/library/app:*"]}


@case("not between one and 64 names")
def no_name(stage: Stage) -> None:
    stage.changes = {"names": []}


@case("a platform that is none|canonical")
def a_platform_in_other_words(stage: Stage) -> None:
    stage.changes = {"platform": "linux/x86_64"}


@case("a digest that is none")
def a_digest_in_capitals(stage: Stage) -> None:
    stage.changes = {"config": digest(stage.image.config).upper().replace("SHA", "sha")}


@case("nested too deep")
def brackets_without_end(stage: Stage) -> None:
    bent(stage, lambda _: b"[" * 20_000)


@case("a line is longer than 65536 bytes")
def a_signature_of_a_gigabyte(stage: Stage) -> None:
    """As much of it as a client gets rid of."""
    stage.lines = [f"signature {base64.b64encode(stage.said()).decode()} {'A' * (4 << 20)}"]


@case("the statement is larger than 32768 bytes")
def a_statement_that_is_too_large(stage: Stage) -> None:
    stage.lines = [f"signature {'A' * 45_000} AAAA"]


@case("the signature is larger than 8192 bytes")
def a_signature_that_is_too_large(stage: Stage) -> None:
    stage.lines = [f"signature {base64.b64encode(stage.said()).decode()} {'A' * 12_000}"]


@case("the signature is not base64")
def a_signature_that_is_not_base64(stage: Stage) -> None:
    stage.lines = [f"signature {base64.b64encode(stage.said()).decode()} -f"]


@case("the statement is not base64")
def base64_with_bits_to_spare(stage: Stage) -> None:
    stage.lines = [f"signature eyB= {base64.b64encode(b'SSHSIG').decode()}"]


@case("the signature is not one of ssh-keygen's")
def a_signature_of_another_tool(stage: Stage) -> None:
    stage.lines = [line(stage.said(), b"-----BEGIN PGP SIGNATURE-----")]


@case("the signature is broken")
def a_signature_that_breaks_off(stage: Stage) -> None:
    data = stage.said()
    stage.lines = [line(data, stage.keys.sign(KEY, data)[:-1])]


@case("the signature is broken")
def a_signature_with_something_behind_it(stage: Stage) -> None:
    data = stage.said()
    stage.lines = [line(data, stage.keys.sign(KEY, data) + b"x")]


@case("not over this statement|the signature is not valid|nobody who is allowed")
def a_signature_with_one_bit_turned(stage: Stage) -> None:
    data = stage.said()
    ours = bytearray(stage.keys.sign(KEY, data))
    ours[-3] ^= 1
    stage.lines = [line(data, bytes(ours))]


@case("not over this statement|the signature is not valid")
def the_key_of_a_signer_and_the_signature_of_another(stage: Stage) -> None:
    data = stage.said()
    theirs, ours = stage.keys.sign(KEY, data), stage.keys.sign("ed25519-mallory", data)
    stage.lines = [line(data, theirs[:-64] + ours[-64:])]


@case("more than 128 signatures")
def too_many_signatures(stage: Stage) -> None:
    stage.lines = [stage.line()] * 129


@case("'signature' has no place here", loads=True)
def a_signature_after_the_archive(stage: Stage) -> None:
    ours = stage.line()
    stage.shipment.then.insert(0, ours)


@case("'signature' has no place here")
def a_signature_of_three_words(stage: Stage) -> None:
    stage.lines = [stage.line() + " x"]


# The host cannot check.


def program(stage: Stage, text: str) -> None:
    file = stage.bench.bin / "ssh-keygen"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@case("ssh-keygen is too old here")
def a_ssh_keygen_that_is_too_old(stage: Stage) -> None:
    program(stage, 'echo "ssh-keygen: unknown option -- Y" >&2; exit 1')


@case("ssh-keygen is too old here")
def a_ssh_keygen_that_calls_everything_good(stage: Stage) -> None:
    program(stage, "exit 0")


@case("the signature is not valid|no word")
def a_ssh_keygen_that_finds_but_does_not_check(stage: Stage) -> None:
    program(stage, "case $2 in find-principals) echo sample ;; esac; exit 0")


@case("signatures cannot be checked: ssh-keygen (cannot be started|takes too long|is too old)")
def a_ssh_keygen_that_cannot_be_started(stage: Stage) -> None:
    file = stage.bench.bin / "ssh-keygen"
    file.write_bytes(b"\x7fELF")
    file.chmod(0o755)


@case("signatures cannot be checked: .*allowed_signers: No such file")
def no_file_of_signers(stage: Stage) -> None:
    stage.lines = []
    stage.signers.unlink()


@case("others than root can write")
def a_file_of_signers_that_others_can_write(stage: Stage) -> None:
    stage.signers.chmod(0o666)


@case("is not a file")
def a_folder_of_signers(stage: Stage) -> None:
    stage.signers.unlink()
    stage.signers.mkdir()
