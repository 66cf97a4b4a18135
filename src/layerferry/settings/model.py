"""The settings as a model; pydantic lives here alone."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from layerferry.compression import Compression
from layerferry.errors import LayerferryError, UsageError
from layerferry.image import Platform

RouteName = Literal["auto", "registry", "ngrok", "export"]
Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything that a pipeline may set."""

    model_config = SettingsConfigDict(env_prefix="LAYERFERRY_", env_ignore_empty=True, extra="ignore", frozen=True)

    images: Words = Field((), description="Images to push; separated by commas, spaces or newlines.")
    targets: Words = Field((), description="Where to push them: `[user@]host[:port]`, separated likewise.")
    route: RouteName = Field("auto", description="`auto`, `registry`, `ngrok` or `export`.")
    platform: str = Field("", description="The platform to push of a multi-platform image, such as `linux/arm64`.")
    compression: str = Field(
        "auto", description="`auto`, `zstd`, `gzip` or `none`, with a level if you like: `zstd:9`."
    )
    timeout: float = Field(0, ge=0, description="Seconds that one push may last; 0 for no bound.")

    @field_validator("images", "targets", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(re.split(r"[,\s]+", value.strip(", \t\r\n"))) if isinstance(value, str) else value

    @field_validator("platform")
    @classmethod
    def _platform(cls, value: str) -> str:
        return _checked(value, Platform.parse) if value else value

    @field_validator("compression")
    @classmethod
    def _compression(cls, value: str) -> str:
        return _checked(value, Compression.parse)

    @property
    def parsed_platform(self) -> Platform | None:
        return Platform.parse(self.platform) if self.platform else None

    @property
    def parsed_compression(self) -> Compression:
        return Compression.parse(self.compression)


def _checked(value: str, parse: Any) -> str:
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
        mistakes = [f"{_variable(problem['loc'], given)}: {_message(problem)}" for problem in error.errors()]
        raise UsageError("; ".join(mistakes)) from None


def _variable(location: tuple[int | str, ...], given: Mapping[str, Any]) -> str:
    name = str(location[0])
    return f"--{name.replace('_', '-')}" if name in given else f"LAYERFERRY_{name.upper()}"


def _message(problem: Mapping[str, Any]) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")
