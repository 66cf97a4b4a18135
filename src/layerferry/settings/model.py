"""The model that reads and checks the settings of `values`; only this module imports pydantic."""

import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AliasChoices, Field, ValidationError, create_model, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from layerferry.ci.escape import as_text
from layerferry.ci.providers import named
from layerferry.ci.services import read_address
from layerferry.compression.stream import Compression
from layerferry.errors import LayerferryError, UsageError
from layerferry.oci.image import Name, Platform
from layerferry.settings.values import FIELDS, PREFIX, Placed, Settings, is_given, variable_of, variables

if TYPE_CHECKING:
    from dataclasses import Field as Setting


#: The settings that have lines, or several words.
_OF_LINES = frozenset(
    {"images", "targets", "names", "services", "ssh_key", "ssh_known_hosts", "sign_key", "signatures"}
    | {"then", "then_on", "copy_"}
)
_CONTROL = "it has a control character in it"
#: RFC 1035, section 2.3.4; ngrok takes a wildcard, too.
_DOMAIN = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
#: pydantic's kinds of mistakes in our words; its own quote the value, or speak of types.
_MISTAKES: Mapping[str, str] = {
    "bool_parsing": "it is neither true nor false",
    "finite_number": "it is not a number",
    "float_parsing": "it is not a number",
    "greater_than_equal": "it must be {ge} or more",
    "int_parsing": "it is not a whole number",
    "int_parsing_size": "it is not a whole number of a sensible size",
    "less_than_equal": "it must be {le} or less",
    "literal_error": "it is none of {expected}",
}


class _Environment(EnvSettingsSource):
    """The variables, of which that counts which `variable_of` says: pydantic takes the first that is there."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        name = _setting_name(field_name)
        return os.environ.get(variable_of(name, os.environ)), variables(name)[0], False


class _Checks(BaseSettings):
    """The checks of a value, beyond its type.

    An empty variable counts as unset; an empty secret is a mistake, which the user is told of.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Environment(settings_cls)

    @field_validator("*", mode="before", check_fields=False)
    @classmethod
    def _printable(cls, value: Any, info: Any) -> Any:
        """Check that a value is printable. Lists, a key and known hosts have lines, and are checked later."""
        if isinstance(value, str) and info.field_name not in _OF_LINES and not _is_printable(value.strip()):
            raise ValueError(_CONTROL)
        return value

    @field_validator(
        "images",
        "targets",
        "names",
        "services",
        "signatures",
        "then_on",
        "copy_",
        mode="before",
        check_fields=False,
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        words = tuple(re.findall(r"[^,\s]+", value)) if isinstance(value, str) else value
        if not all(map(_is_printable, words)):
            raise ValueError(_CONTROL)
        return words

    @field_validator(
        "route",
        "local_docker_registry_port",
        "ngrok_install",
        "ssh_accept_new_host_key",
        "timeout",
        "compose",
        "jobs",
        "prune",
        "retries",
        "whole_layers",
        "up",
        "quiet",
        "verbose",
        "then_file",
        "then_after",
        "then_timeout",
        "summary",
        "dotenv",
        "log",
        "config",
        mode="before",
        check_fields=False,
    )
    @classmethod
    def _empty_is_unset(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value == "" else value

    @field_validator(
        "ngrok_authtoken", "docker_registry_ngrok", "ngrok_domain", "registry", mode="before", check_fields=False
    )
    @classmethod
    def _strip(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    @field_validator("ngrok_domain", mode="before", check_fields=False)
    @classmethod
    def _as_pasted(cls, value: Any) -> Any:
        """A domain as the dashboard's address bar has it."""
        return re.sub(r"^https?://([^/]*)/?$", r"\1", value.strip()) if isinstance(value, str) else value

    @field_validator("platform", check_fields=False)
    @classmethod
    def _platform(cls, value: str) -> str:
        return _checked(value, Platform.parse)

    @field_validator("keep_previous", check_fields=False)
    @classmethod
    def _tag(cls, value: str) -> str:
        value = value.strip()
        return _checked(value, lambda tag: Name("docker.io", "library/app").with_tag(tag))

    @field_validator("compression", check_fields=False)
    @classmethod
    def _compression(cls, value: str) -> str:
        return _checked(value or "auto", Compression.parse)

    @field_validator("ngrok_domain", check_fields=False)
    @classmethod
    def _domain(cls, value: str) -> str:
        if value and not _DOMAIN.fullmatch(value):
            raise ValueError("it is not the name of a domain, such as me.ngrok.app")
        return value

    @field_validator("ci", check_fields=False)
    @classmethod
    def _ci(cls, value: str) -> str:
        return _checked(value.strip(), named)

    @field_validator("registry", check_fields=False)
    @classmethod
    def _registry(cls, value: str) -> str:
        return _checked(value, lambda text: read_address(text, "it"))


def _is_printable(text: str) -> bool:
    return as_text(text).isprintable()


def _checked(value: str, parse: Callable[[str], object]) -> str:
    if value:
        try:
            parse(value)
        except LayerferryError as error:
            raise ValueError(f"{error.message}. {error.hint}") from None
    return value


def _field_name(name: str) -> str:
    """The name of a setting's field: pydantic has a method `copy`."""
    return "copy_" if name == "copy" else name


def _setting_name(name: str) -> str:
    """The name of a field's setting."""
    return name.rstrip("_")


def _field(setting: "Setting[Any]") -> tuple[Any, Any]:
    """A setting as a field of pydantic's. A list is no JSON in our variables."""
    kind = Annotated[setting.type, NoDecode] if setting.default == () else setting.type
    names = AliasChoices(*variables(setting.name))
    return kind, Field(setting.default, validation_alias=names, **setting.metadata["bounds"])


_DEFINED: dict[str, Any] = {_field_name(field.name): _field(field) for field in FIELDS}
_Variables = create_model("_Variables", __base__=_Checks, **_DEFINED)


def load(given: Mapping[str, Any], filed: Mapping[str, Placed] = MappingProxyType({})) -> Settings:
    """The settings, as `layerferry.settings.load` describes them."""
    counts = {name: found for name, found in filed.items() if not (name in given or is_given(name, os.environ))}
    values = {name: found.value for name, found in counts.items()} | dict(given)
    try:
        read = _Variables(**{_field_name(name): value for name, value in values.items()})
    except ValidationError as error:
        mistakes = [
            f"{_origin(str(problem['loc'][0]), given, counts)}: {_message(problem)}" for problem in error.errors()
        ]
        raise UsageError("; ".join(mistakes)) from None
    return Settings(**{field.name: getattr(read, _field_name(field.name)) for field in FIELDS})


def _origin(location: str, given: Mapping[str, Any], filed: Mapping[str, Placed]) -> str:
    """The option, variable or key that a mistake was made in. pydantic names a field by the first of its aliases."""
    name = _setting_name(location.removeprefix(PREFIX).lower())
    if name in given:
        return f"--{name.replace('_', '-')}"
    if name in filed:
        return filed[name].place
    return variable_of(name, os.environ) or variables(name)[0]


def _message(problem: Mapping[str, Any]) -> str:
    """The message for a mistake, without the value; our own checks have their own."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    bounds = {name: _plain(value) for name, value in problem.get("ctx", {}).items()}
    return _MISTAKES.get(problem["type"], "it cannot be read").format_map(bounds)


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
