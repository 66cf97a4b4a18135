"""The credentials of a registry of ours, and Basic authentication (RFC 7617), checked in constant time."""

import base64
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password for the registries of one run, and a tunnel to them. `repr` does not show them."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """New credentials of 256 random bits, within ngrok's limits: 8 to 128 characters, no `:` and no `${`."""
        return cls("layerferry", secrets.token_urlsafe(32))

    @property
    def header(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The forms in which they may be written, to be masked."""
        return self.password, self.header.removeprefix("Basic ")


class BasicAuth:
    """One user and password."""

    def __init__(self, user: str, password: str) -> None:
        self._token = base64.b64encode(f"{user}:{password}".encode())

    def admit(self, authorization: str) -> bool:
        """Whether the value of an Authorization header has this user and password."""
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode("latin-1", "replace")
        return hmac.compare_digest(given, self._token) and scheme.lower() == "basic"
