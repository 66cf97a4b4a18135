"""The list of the settings: each with its variables, its help and its default. `model` reads and checks them."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from layerferry.compression.stream import Compression
from layerferry.oci.image import Platform

PREFIX = "LAYERFERRY_"
#: Seconds; the system's timers take not much more.
_YEAR = 366 * 24 * 3600
#: What stands where a pipeline has no secret.
_NONE = frozenset({"none", "null", "nil", "undefined", "unset", "n/a", "-"})
AfterName = Literal["each", "all", "one-by-one"]
RouteName = Literal["auto", "registry", "ngrok", "export"]
SWITCHES = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


def _setting(default: Any, says: str, *older: str, secret: bool = False, hosts: bool = False, **bounds: float) -> Any:
    """A field. `older` are variables that mean the same, `bounds` are pydantic's (`ge`, `le`).

    Of one that names `hosts` no password is shown, which people write there by mistake.
    """
    told = {"says": says, "older": older, "secret": secret, "hosts": hosts, "bounds": bounds}
    return dataclasses.field(default=default, repr=not secret, metadata=told)


@dataclass(frozen=True)
class Settings:
    """The settings that a pipeline may have, each as LAYERFERRY_ and its name in capitals."""

    images: tuple[str, ...] = _setting((), "Images to push, separated by commas, spaces or newlines.")
    targets: tuple[str, ...] = _setting(
        (), "Where to: `[user@]host[:port]`, or `registry://host[/prefix][?via=host]`.", hosts=True
    )
    compose: Path | None = _setting(
        None, "A compose file: the images that it names, and this job's daemon has, are pushed."
    )
    services: tuple[str, ...] = _setting((), "Services of the compose file, if not all.")
    up: bool = _setting(
        default=False, says="Whether compose then brings the services up on each target, and waits for their health."
    )
    names: tuple[str, ...] = _setting(
        (), "Names there, if not the job's: `app:latest app:1`. Of several images, each gets those of its repository."
    )
    keep_previous: str = _setting("", "A tag that keeps what the name pointed to before, for `layerferry rollback`.")
    prune: int | None = _setting(
        None, "Images of the repository that stay there: the newest ones. Older, unused ones go.", ge=1, le=10_000
    )
    via: str = _setting("", "The host, as ssh names it, that reaches the registries of the targets.", hosts=True)
    route: RouteName = _setting("auto", "`auto`, `registry`, `ngrok` or `export`.")
    registry: str = _setting("", "A registry service of this job, host:port as the job reaches it.", hosts=True)
    local_docker_registry_port: int | None = _setting(
        None, "The same on 127.0.0.1, as older pipelines set it.", "LOCAL_DOCKER_REGISTRY_PORT", ge=1, le=65535
    )
    ngrok_authtoken: str | None = _setting(
        None,
        "ngrok's token: a tunnel is used where the daemon reaches no registry of this job that is worth a push.",
        "NGROK_AUTHTOKEN",
        secret=True,
    )
    docker_registry_ngrok: str | None = _setting(
        None,
        "The same, as older pipelines set it; or `true`: the agent's own configuration has the token.",
        "DOCKER_REGISTRY_NGROK",
        secret=True,
    )
    ngrok_domain: str = _setting("", "The domain to open the tunnel on; ngrok picks one if unset.")
    ngrok_install: bool = _setting(default=False, says="Whether ngrok's agent may be downloaded if it is not there.")
    ssh_key: str | None = _setting(None, "The private key: its content, or a path.", secret=True)
    ssh_known_hosts: str | None = _setting(None, "Lines of a known_hosts file, or a path.")
    ssh_accept_new_host_key: bool = _setting(default=False, says="Trust a host's key at first sight. Not recommended.")
    ssh_password: str | None = _setting(
        None, "The password of the user there, for a host that takes no key. A key is safer.", secret=True
    )
    ssh_passphrase: str | None = _setting(
        None, "The passphrase of the private key. A key for this job alone needs none.", secret=True
    )
    sudo_password: str | None = _setting(
        None, "The password that sudo asks for there. A NOPASSWD rule for docker, or its group, is better.", secret=True
    )
    ci: str = _setting("", "Which CI this is, where it is not the one that `run` says, such as `gitlab`, or `none`.")
    sign_key: str | None = _setting(None, "The key that signs what is pushed: its content, or a path.", secret=True)
    signatures: tuple[str, ...] = _setting((), "Files with signatures on the images, as `layerferry sign` writes them.")
    jobs: int = _setting(8, "How many targets are pushed to at once.", ge=1)
    retries: int = _setting(3, "Further tries where a connection breaks, or is refused in a crowd.", ge=0, le=100)
    whole_layers: bool = _setting(default=False, says="Whether layers always go whole, and never as patches.")
    then: str = _setting("", "A command that runs on each target, in its login shell, when it has the images.")
    then_file: Path | None = _setting(None, "The same as a file: a script that is sent, and run by its `#!`, or `sh`.")
    then_after: AfterName = _setting("each", "When it runs: `each`, `all` or `one-by-one` (docs/after-the-push.md).")
    then_on: tuple[str, ...] = _setting((), "The hosts that it runs on, where the targets are registries.", hosts=True)
    then_timeout: float = _setting(600.0, "Seconds that it may last.", ge=1, le=_YEAR)
    copy: tuple[str, ...] = _setting((), "Small files that go over before: `LOCAL[:REMOTE]`, from the home folder on.")
    platform: str = _setting("", "Which platform of a multi-platform image, such as `linux/arm64`.")
    compression: str = _setting("auto", "`auto`, `zstd`, `gzip` or `none`, with a level: `zstd:9`.")
    timeout: float = _setting(
        0.0, "Seconds that the whole push may last. What stands still ends by itself.", ge=0, le=_YEAR
    )
    quiet: bool = _setting(default=False, says="Whether nothing is told but errors, and one line at the end.")
    verbose: bool = _setting(default=False, says="Whether the lines of the log are told on stderr.")
    summary: bool = _setting(default=True, says="Whether the CI's job page gets a summary.")
    dotenv: Path | None = _setting(None, "A file that gets the outputs as NAME=value, on any CI.")
    log: Path | None = _setting(None, "A file to which a log of the run is appended, secrets masked.")
    config: Path | None = _setting(
        None, "The project's file, such as `layerferry.toml`, which names targets and images."
    )

    @property
    def parsed_platform(self) -> Platform | None:
        return Platform.parse(self.platform) if self.platform else None

    @property
    def parsed_compression(self) -> Compression:
        return Compression.parse(self.compression)

    @property
    def ngrok_token(self) -> str:
        """The token to use; empty where the agent's own configuration has it, or where there is no ngrok at all."""
        older = _given(self.docker_registry_ngrok)
        return _given(self.ngrok_authtoken) or ("" if older.lower() in SWITCHES else older)

    @property
    def wants_ngrok(self) -> bool:
        """Whether a tunnel may be opened: a token is given, or DOCKER_REGISTRY_NGROK is `true`."""
        return bool(self.ngrok_token) or SWITCHES.get((self.docker_registry_ngrok or "").lower(), False)

    @property
    def known_secrets(self) -> tuple[str, ...]:
        """The secret values, used or not, to be masked before anything else is written."""
        values = (getattr(self, field.name) for field in FIELDS if field.metadata["secret"])
        return tuple(value for value in values if _given(value) and value.lower() not in SWITCHES)


def _given(value: str | None) -> str:
    """A secret's value; nothing where a pipeline has a word for none, which is not to be masked in every log."""
    return "" if value is None or value.strip().lower() in _NONE else value


FIELDS = dataclasses.fields(Settings)


def variables(name: str) -> tuple[str, ...]:
    """The variables of a setting, the one that counts first."""
    return (PREFIX + name.upper(), *next(field.metadata["older"] for field in FIELDS if field.name == name))


def are_set(environ: Mapping[str, str]) -> bool:
    """Whether any variable of ours is in the environment, in whatever case."""
    known = {variable for field in FIELDS for variable in variables(field.name)}
    return not known.isdisjoint(map(str.upper, environ))


#: Beginnings of variables that are for others than `layerferry`: the outputs of a step, what installs it, its tests.
_FOR_OTHERS = tuple(f"{PREFIX}{word}_" for word in ("OUTPUT", "ACTION", "TEST", "RIG", "LIVE"))
#: What people write who mean another word, without our prefix.
_MEANT: Mapping[str, str] = {
    **dict.fromkeys(("DESTINATION", "DESTINATIONS", "HOST", "HOSTS", "SERVER", "SERVERS"), "TARGETS"),
    **dict.fromkeys(("PRIVATE_KEY", "SSH_PRIVATE_KEY", "SSH_IDENTITY", "KEY"), "SSH_KEY"),
}
#: How much two names must have in common for one to be taken for the other, 0 to 1, and how many are told of.
_ALIKE = 0.7
_MOST_UNKNOWN = 20
_LONGEST_NAME = 100


def unknown(names: Iterable[str]) -> Iterator[str]:
    """A sentence on each of the variables that begins as ours do and is none, with the one that may be meant."""
    known = {variable for field in FIELDS for variable in variables(field.name)}
    ours = (name for name in sorted(names) if name.upper().startswith(PREFIX))
    strange = [name for name in ours if name.upper() not in known and not name.upper().startswith(_FOR_OTHERS)]
    for name in strange[:_MOST_UNKNOWN]:
        word = name.upper().removeprefix(PREFIX)
        meant = _MEANT.get(word) or similar(word, [one.removeprefix(PREFIX) for one in sorted(known)])
        mend = f": {PREFIX}{meant} may be meant" if meant else ""
        yield f"{name[:_LONGEST_NAME]} is no variable of layerferry, and was not read{mend}"


#: Settings that people have because they must, and what is better.
_BETTER: Mapping[str, str] = {
    "SSH_PASSWORD": "a key is safer: ssh-copy-id gives it to the host, LAYERFERRY_SSH_KEY to this job",
    "SUDO_PASSWORD": "the docker group, or NOPASSWD for docker in sudoers, is better than a password here",
    "SSH_PASSPHRASE": "a key of its own, which may do just this, is safer than one that needs a passphrase here",
}


def discouraged(names: Iterable[str]) -> Iterator[str]:
    """A sentence on each of the variables that has a better way."""
    for word in sorted(_BETTER.keys() & {name.upper().removeprefix(PREFIX) for name in names}):
        yield f"{PREFIX}{word}: {_BETTER[word]}"


def similar(word: str, known: Iterable[str]) -> str:
    """The one of `known` that may be meant by `word`; empty where none is alike."""
    import difflib  # noqa: PLC0415 - for a mistake alone

    return next(iter(difflib.get_close_matches(word[:_LONGEST_NAME], list(known), 1, _ALIKE)), "")


@dataclass(frozen=True, slots=True)
class Placed:
    """A value of a setting that a project's file gives, and its place there."""

    value: Any
    place: str


def variable_of(name: str, environ: Mapping[str, str]) -> str:
    """The variable that counts for a setting, in whatever case; empty where none is set.

    It is the first of its variables that says something, or else the first of those that are empty.
    """
    known = variables(name)
    found = sorted((one for one in environ if one.upper() in known), key=lambda one: known.index(one.upper()))
    return next((one for one in found if environ[one].strip()), found[0] if found else "")


def is_given(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable says something for a setting."""
    return bool(environ.get(variable_of(name, environ), "").strip())


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a setting, and its value, with secrets masked, and passwords of hosts too."""

    variable: str
    value: str
    source: str


def origins(
    settings: Settings, environ: Mapping[str, str], overrides: Mapping[str, Any], filed: Mapping[str, Placed]
) -> Iterator[Origin]:
    """The origin of each setting: the command line, the environment, the project's file, or our default."""
    from layerferry.mistakes import without_password  # noqa: PLC0415 - where they are shown

    for field in FIELDS:
        value = getattr(settings, field.name)
        if overrides.get(field.name) not in (None, "", ()):
            source = "command line"
        elif field.name in filed and not is_given(field.name, environ):
            source = filed[field.name].place
        else:
            source = variable_of(field.name, environ) or "default"
        if field.metadata["secret"] and value is not None:
            shown = "***"
        else:
            words = map(str, value) if isinstance(value, tuple) else "" if value is None else str(value).splitlines()
            shown = " ".join(map(without_password, words) if field.metadata["hosts"] else words)
        yield Origin(variables(field.name)[0], shown, source)


def table() -> str:
    """The README's table of settings, in Markdown."""
    rows = ["| variable | what it says | default |", "|-|-|-|"]
    for field in FIELDS:
        names = ", ".join(f"`{variable}`" for variable in variables(field.name))
        default = field.default
        shown = "" if default in (None, "", ()) else f"`{_plain(default)}`"
        rows.append(f"| {names} | {field.metadata['says']} | {shown} |")
    return "\n".join(rows) + "\n"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
