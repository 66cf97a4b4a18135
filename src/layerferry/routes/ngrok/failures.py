"""The error codes of ngrok, and what to do about each. ngrok.com/docs/errors lists them all."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from layerferry.errors import RouteError

_CODE = re.compile(r"ERR_NGROK_([0-9]{1,6})(?![0-9])")


class Advice(NamedTuple):
    """A sentence on what is wrong, and one on what to do."""

    message: str
    hint: str


_TOKEN_PAGE = "https://dashboard.ngrok.com/get-started/your-authtoken"  # noqa: S105  an address
_BILLING = "Wait for the next month or see https://dashboard.ngrok.com/billing; the export route needs no tunnel."
_DOMAIN = "Set LAYERFERRY_NGROK_DOMAIN to a domain of this account, or unset it: https://dashboard.ngrok.com/domains"
_CLAIM = "Claim one at https://dashboard.ngrok.com/domains, and set LAYERFERRY_NGROK_DOMAIN to it."
_SHARED = "Let one job at a time use the account's domain (a concurrency group), or give each LAYERFERRY_NGROK_DOMAIN."

#: Texts are ours: ngrok's own for a refused token repeats the token.
ADVICE: Mapping[str, Advice] = {
    "105": Advice("ngrok does not take the token for one of its own", f"Copy it again from {_TOKEN_PAGE}."),
    "107": Advice("ngrok refuses the token", f"It was reset or its account closed; take a new one from {_TOKEN_PAGE}."),
    "108": Advice(
        "the ngrok account has no agent session left",
        "Other jobs hold them: stop agents at https://dashboard.ngrok.com/agents, or run fewer jobs at a time.",
    ),
    "120": Advice("this ngrok agent is too old for ngrok", "Update it, or set LAYERFERRY_NGROK_INSTALL=true."),
    "121": Advice("this ngrok agent is too old for ngrok", "Update it, or set LAYERFERRY_NGROK_INSTALL=true."),
    "313": Advice("the ngrok account's plan has no domain of one's own choice", _DOMAIN),
    "314": Advice("the ngrok account's plan has no domain of its own", _DOMAIN),
    "316": Advice(
        "the ngrok token may not open a tunnel on this address",
        "Change the token's ACL rules at https://dashboard.ngrok.com/authtokens, or set LAYERFERRY_NGROK_DOMAIN to a "
        "domain that they allow.",
    ),
    "319": Advice("the domain is not reserved by the ngrok account", _DOMAIN),
    "320": Advice("the domain is reserved by another ngrok account", _DOMAIN),
    "334": Advice("the tunnel's address is online already", _SHARED),
    "360": Advice("ngrok does not take the credentials", "This is a mistake of layerferry's; please report it."),
    "725": Advice("the ngrok account has used up its bandwidth of this month", _BILLING),
    "726": Advice("the ngrok account has used up its connections of this month", _BILLING),
    "727": Advice("the ngrok account has used up its requests of this month", _BILLING),
    "734": Advice("the ngrok account has too many requests a minute", "Try again in a minute."),
    "3200": Advice("ngrok's edge does not know the tunnel", "The agent lost its session; try again."),
    "4018": Advice("ngrok wants a token", f"Set LAYERFERRY_NGROK_AUTHTOKEN; {_TOKEN_PAGE} has it."),
    "4027": Advice("the ngrok account has used up its bandwidth", _BILLING),
    "8012": Advice("ngrok's agent does not reach our registry", "Something on this machine forbids loopback traffic."),
    "8014": Advice(
        "ngrok has blocked the account, for its rules of acceptable use",
        "Look at https://dashboard.ngrok.com, or write to support@ngrok.com; the export route needs no tunnel.",
    ),
    "9009": Advice(
        "ngrok's plan does not let the agent go through an HTTP proxy",
        "Unset http_proxy for this job, let it reach ngrok directly, or take a plan that allows it.",
    ),
    "9040": Advice(
        "ngrok takes no agents from the address of this machine",
        "Run the job elsewhere; ngrok makes no exceptions. The export route needs no tunnel.",
    ),
    # 15002 and 15013 want a domain of the account's; of 15015 no page was at hand.
    **dict.fromkeys(("15002", "15013", "15015"), Advice("ngrok wants a domain that the account has claimed", _CLAIM)),
}


def find_code(text: str) -> str:
    """The digits of the first ERR_NGROK_… in `text`, or ""."""
    match = _CODE.search(text)
    return match[1] if match else ""


def explain(code: str, detail: str = "") -> RouteError:
    """An error for `code`, or for `detail`, text without secrets, where there is no code that we know."""
    if code in ADVICE:
        advice = ADVICE[code]
        return RouteError(f"{advice.message} (ERR_NGROK_{code})", hint=advice.hint)
    if code:
        page = f"https://ngrok.com/docs/errors/err_ngrok_{code}"
        return RouteError(f"ngrok opens no tunnel (ERR_NGROK_{code})", hint=f"See {page}")
    return RouteError(
        f"ngrok opens no tunnel: {detail or 'its agent ended without a word'}",
        hint="The agent has to reach connect.ngrok-agent.com on port 443.",
    )
