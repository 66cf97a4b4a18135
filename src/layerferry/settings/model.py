"""The settings as a model; pydantic lives here alone."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from layerferry.ci.services import read_address
from layerferry.compression import Compression
from layerferry.errors import LayerferryError, UsageError
from layerferry.image import Platform

PREFIX = "LAYERFERRY_"
RouteName = Literal["auto", "registry", "ngrok", "export"]
Words = Annotated[tuple[str, ...], NoDecode]
_SWITCHES = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


def _also(name: str, *older: str) -> AliasChoices:
    return AliasChoices(PREFIX + name.upper(), *older)


class Settings(BaseSettings):
    """Everything that a pipeline may set, each as LAYERFERRY_ and its name in capitals.

    An empty variable counts as unset, but for the secrets: an empty one is a mistake that the user wants to hear of.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, populate_by_name=True)
    secrets: ClassVar[frozenset[str]] = frozenset({"ngrok_authtoken", "docker_registry_ngrok", "ssh_key"})

    images: Words = Field((), description="Images to push, separated by commas, spaces or newlines.")
    targets: Words = Field((), description="Where to: `[user@]host[:port]`, separated likewise.")
    route: RouteName = Field("auto", description="`auto`, `registry`, `ngrok` or `export`.")
    registry: str = Field("", description="A registry service of this job, host:port as the job reaches it.")
    local_docker_registry_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        validation_alias=_also("local_docker_registry_port", "LOCAL_DOCKER_REGISTRY_PORT"),
        description="The same on 127.0.0.1, as older pipelines set it.",
    )
    ngrok_authtoken: SecretStr | None = Field(
        None,
        validation_alias=_also("ngrok_authtoken", "NGROK_AUTHTOKEN"),
        description="ngrok's token: a tunnel is used where the daemon reaches no registry of this job.",
    )
    docker_registry_ngrok: SecretStr | None = Field(
        None,
        validation_alias=_also("docker_registry_ngrok", "DOCKER_REGISTRY_NGROK"),
        description="The same, as older pipelines set it; or `true`: the agent's own configuration has the token.",
    )
    ngrok_domain: str = Field("", description="The domain to open the tunnel on; ngrok picks one if unset.")
    ngrok_install: bool = Field(
        default=False, description="Whether ngrok's agent may be downloaded if it is not there."
    )
    ssh_key: SecretStr | None = Field(None, description="The private key: its content, or a path.")
    ssh_known_hosts: str | None = Field(None, description="Lines of a known_hosts file, or a path.")
    ssh_accept_new_host_key: bool = Field(
        default=False, description="Trust a host's key at first sight. Not recommended."
    )
    platform: str = Field("", description="Which platform of a multi-platform image, such as `linux/arm64`.")
    compression: str = Field("auto", description="`auto`, `zstd`, `gzip` or `none`, with a level: `zstd:9`.")
    timeout: float = Field(0, ge=0, description="Seconds that the whole push may last; 0 for no bound.")
    summary: bool = Field(default=True, description="Whether the CI's job page gets a summary.")
    dotenv: Path | None = Field(None, description="A file that gets the outputs as NAME=value, on any CI.")

    @field_validator("images", "targets", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(re.findall(r"[^,\s]+", value)) if isinstance(value, str) else value

    @field_validator(
        "route",
        "local_docker_registry_port",
        "ngrok_install",
        "ssh_accept_new_host_key",
        "timeout",
        "summary",
        "dotenv",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value == "" else value

    @field_validator("ngrok_authtoken", "docker_registry_ngrok", "ngrok_domain", "registry", mode="before")
    @classmethod
    def _strip(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    @field_validator("platform")
    @classmethod
    def _platform(cls, value: str) -> str:
        return _checked(value, Platform.parse)

    @field_validator("compression")
    @classmethod
    def _compression(cls, value: str) -> str:
        return _checked(value or "auto", Compression.parse)

    @field_validator("registry")
    @classmethod
    def _registry(cls, value: str) -> str:
        return _checked(value, lambda text: read_address(text, "it"))

    @property
    def parsed_platform(self) -> Platform | None:
        return Platform.parse(self.platform) if self.platform else None

    @property
    def parsed_compression(self) -> Compression:
        return Compression.parse(self.compression)

    @property
    def ngrok_token(self) -> str:
        """The token to use; empty where the agent's own configuration has it, or where there is no ngrok at all."""
        own = self.ngrok_authtoken.get_secret_value() if self.ngrok_authtoken else ""
        older = self.docker_registry_ngrok.get_secret_value() if self.docker_registry_ngrok else ""
        return own or ("" if older.lower() in _SWITCHES else older)

    @property
    def wants_ngrok(self) -> bool:
        """Whether a tunnel may be opened: a token is given, or DOCKER_REGISTRY_NGROK is `true`."""
        older = self.docker_registry_ngrok.get_secret_value().lower() if self.docker_registry_ngrok else ""
        return bool(self.ngrok_token) or _SWITCHES.get(older, False)

    @property
    def known_secrets(self) -> tuple[str, ...]:
        """Every secret value, used or not, to be masked before anything else is said."""
        given = (self.ngrok_authtoken, self.docker_registry_ngrok, self.ssh_key)
        values = (secret.get_secret_value() for secret in given if secret)
        return tuple(value for value in values if value and value.lower() not in _SWITCHES)


def _checked(value: str, parse: Callable[[str], object]) -> str:
    if value:
        try:
            parse(value)
        except LayerferryError as error:
            raise ValueError(f"{error.message}. {error.hint}") from None
    return value


def load(overrides: Mapping[str, Any]) -> Settings:
    """See `layerferry.settings.load`."""
    given = {name: value for name, value in overrides.items() if value not in (None, "", ())}
    try:
        return Settings(**given)
    except ValidationError as error:
        mistakes = [f"{_origin(str(problem['loc'][0]), given)}: {_message(problem)}" for problem in error.errors()]
        raise UsageError("; ".join(mistakes)) from None


def _origin(location: str, given: Mapping[str, Any]) -> str:
    """The option or the variable that a mistake was made in. pydantic names a field by the first of its aliases."""
    name = location.removeprefix(PREFIX).lower()
    if name in given:
        return f"--{name.replace('_', '-')}"
    return next((variable for variable in variables(name) if variable in os.environ), variables(name)[0])


def _message(problem: Mapping[str, Any]) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


@dataclass(frozen=True, slots=True)
class Origin:
    """A setting, its value with secrets masked, and where it comes from."""

    variable: str
    value: str
    source: str


def origins(settings: Settings, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Iterator[Origin]:
    """Where each setting came from: the command line, a variable of the environment, or our default."""
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        given = overrides.get(name) not in (None, "", ())
        source = "command line" if given else next((found for found in variables(name) if found in environ), "default")
        if name in Settings.secrets and value is not None:
            shown = "***"
        else:
            words = map(str, value) if isinstance(value, tuple) else "" if value is None else str(value).splitlines()
            shown = " ".join(words)
        yield Origin(PREFIX + name.upper() if field.validation_alias is None else variables(name)[0], shown, source)


def variables(name: str) -> tuple[str, ...]:
    """The environment's names for a setting, the one that counts first."""
    alias = Settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices if str(choice).isupper())
    return (PREFIX + name.upper(),)


def table() -> str:
    """The README's table of settings, in Markdown."""
    rows = ["| variable | what it says | default |", "|-|-|-|"]
    for name, field in Settings.model_fields.items():
        names = ", ".join(f"`{variable}`" for variable in variables(name))
        default = field.default
        shown = (
            "" if default in (None, "", ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        rows.append(f"| {names} | {field.description} | {shown} |")
    return "\n".join(rows) + "\n"
