"""What a registry asks for with a 401 (RFC 9110, section 11.6.1; RFC 6750, section 3), in linear time.

`urllib.request.parse_http_list` takes the header apart. `requests.utils.parse_dict_header` does not do for the rest: to
it the scheme is a part of the first name, and the parameters of several challenges are one dictionary.
"""

import re
from collections.abc import Mapping
from urllib.request import parse_http_list

_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


def bearer(header: str) -> Mapping[str, str] | None:
    """The parameters of a Bearer challenge, by their names in lower case; None where there is no such challenge.

    A header may hold several challenges, and their parameters are separated by the commas that separate them.
    """
    found: dict[str, str] | None = None
    scheme = ""
    for item in parse_http_list(header):
        name, equals, value = item.partition("=")
        words = name.lower().split()
        if not equals or len(words) > 1:
            scheme = words[0] if words else ""
        if scheme == "bearer":
            found = {} if found is None else found
            if equals and words:
                found.setdefault(words[-1], _unquoted(value.strip()))
    return found


def _unquoted(text: str) -> str:
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return _QUOTED_PAIR.sub(r"\1", text[1:-1])
    return text
