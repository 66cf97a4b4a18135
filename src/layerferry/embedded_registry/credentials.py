"""Basic authentication (RFC 7617), checked in constant time."""

import base64
import hmac


class BasicAuth:
    """One user and password."""

    def __init__(self, user: str, password: str) -> None:
        self._token = base64.b64encode(f"{user}:{password}".encode())

    def admit(self, authorization: str) -> bool:
        """Whether the value of an Authorization header has this user and password."""
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode("latin-1", "replace")
        return hmac.compare_digest(given, self._token) and scheme.lower() == "basic"
