"""The agent of ngrok: its path, its version, and the configuration that we write for it."""

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerferry.disk import is_there
from layerferry.embedded_registry.credentials import Credentials
from layerferry.errors import RouteError
from layerferry.processes import child_environment
from layerferry.routes.ngrok.edge_check import EDGE_REALM

#: The agent API's /api/endpoints came with this agent (ngrok.com/docs/agent/changelog, 2025-09-23).
_FIRST_WITH_ENDPOINTS = (3, 30)
_FIRST_SUPPORTED = (3, 0)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEAD = 4096


#: Variables that name an agent.
_NAMED = ("NGROK_PATH", "PYNGROK_NGROK_PATH")


class OldAgentError(RouteError):
    """The agent is one of the old service."""


def is_named(env: Mapping[str, str]) -> bool:
    """Whether the user names an agent."""
    return any(env.get(name) for name in _NAMED)


def find_agent(env: Mapping[str, str]) -> Path | None:
    """The agent that the user names, the first on PATH, or the one that pyngrok installed earlier; None without any.

    Raises `RouteError` when the named one cannot be run. pyngrok's own console script of the same name would download
    an agent, so it is passed over.
    """
    for name in _NAMED:
        if env.get(name):
            path = Path(env[name])
            if not _is_agent(path):
                raise RouteError(f"{name}={path} is no program that can be run", hint="Point it at ngrok's agent.")
            return path.absolute()
    folders = [folder for folder in env.get("PATH", os.defpath).split(os.pathsep) if folder]
    home = env.get("XDG_CONFIG_HOME") or (f"{env['HOME']}/.config" if env.get("HOME") else "")
    folders += [f"{home}/ngrok"] if home else []
    return next((path.absolute() for path in (Path(folder) / "ngrok" for folder in folders) if _is_agent(path)), None)


def _is_agent(path: Path) -> bool:
    if not is_there(path, stat.S_ISREG) or not os.access(path, os.X_OK):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return True  # a program may be run and not read
    return not (head.startswith(b"#!") and re.search(rb"^\s*(?:from|import) pyngrok\b", head, re.MULTILINE))


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor version in what `ngrok --version` prints; raises `RouteError` on an agent of the old service."""
    match = re.search(r"(\d+)\.(\d+)", text)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < _FIRST_SUPPORTED:
        raise OldAgentError(
            "this ngrok agent is too old for ngrok",
            hint="Update it to version 3, or set LAYERFERRY_NGROK_INSTALL=true.",
        )
    return version


def has_endpoints(version: tuple[int, int]) -> bool:
    return version >= _FIRST_WITH_ENDPOINTS


def configuration(version: tuple[int, int], token: str, proxy: str = "") -> str:
    """The agent's configuration file, as JSON, which is YAML (ngrok.com/docs/agent/config/v3 and v2).

    Inspection is off: it would keep the credentials in the agent's memory, and show them on a port of this machine.
    """
    agent: dict[str, Any] = {
        "authtoken": token,
        "console_ui": False,
        "inspect_db_size": -1,
        "log_level": "info",
        "update_check": False,
        **({"proxy_url": proxy} if proxy else {}),
    }
    document = {"version": "3", "agent": agent} if has_endpoints(version) else {"version": "2", **agent}
    return json.dumps(document)


def policy(credentials: Credentials) -> dict[str, Any]:
    """A traffic policy that asks for `credentials` (ngrok.com/docs/traffic-policy/actions/basic-auth)."""
    pair = f"{credentials.user}:{credentials.password}"
    config = {"realm": EDGE_REALM, "credentials": [pair]}
    return {"on_http_request": [{"actions": [{"type": "basic-auth", "config": config}]}]}


def tunnel_forms(version: tuple[int, int], credentials: Credentials, domain: str) -> list[tuple[str, dict[str, Any]]]:
    """Version of the agent's API, and options for it, in the order to try them.

    The agent's documents show a policy as a string in one place and as an object in another; an agent that takes
    neither takes the older form. What is really enforced is proved afterwards, whichever was taken.
    """
    pair = f"{credentials.user}:{credentials.password}"
    place = {"domain": domain} if domain else {}
    older = ("2", {"basic_auth": [pair], "schemes": ["https"], "inspect": False, **place})
    if not has_endpoints(version):
        return [older]
    url = {"url": f"https://{domain}"} if domain else {}
    rules = policy(credentials)
    return [("3", {"traffic_policy": json.dumps(rules), **url}), ("3", {"traffic_policy": rules, **url}), older]


def agent_environment(env: Mapping[str, str], *, secrets: tuple[str, ...], folder: Path) -> dict[str, str]:
    """The environment for the agent: ours without secrets, and with no proxy for its own API."""
    kept = child_environment(env, secrets=secrets)
    direct = [part for part in (env.get("no_proxy") or env.get("NO_PROXY") or "").split(",") if part.strip()]
    direct += [name for name in _LOOPBACK if name not in direct]
    return kept | {"no_proxy": ",".join(direct), "NO_PROXY": ",".join(direct), "TMPDIR": str(folder)}


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """The text on one line without `secrets`; empty where a part of one is left, as in a quotation cut short."""
    for secret in secrets:
        text = text.replace(secret, "***")
    for secret in secrets:
        pieces = (secret[start : start + 8] for start in range(max(1, len(secret) - 7)))
        if any(piece in text for piece in pieces if piece):
            return ""
    return " ".join(text.split())[:500]
