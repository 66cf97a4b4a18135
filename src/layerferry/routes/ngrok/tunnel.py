"""The ngrok tunnel to a registry of this job, for as long as a `with` block lasts.

pyngrok runs in a process of its own, the keeper, which leads a session and has the agent as its child. It reads a pipe
of ours: when that ends, and it ends however we do, SIGKILL included, the keeper takes the tunnel down and exits. The
keeper also bounds pyngrok, which may wait for a silent agent for ever: it can be killed with the agent.
Secrets go to it through that pipe, to the agent through a private file, and nowhere else.
"""

import contextlib
import http.client
import json
import logging
import os
import re
import secrets as random
import selectors
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import urlsplit

from layerferry.disk import is_there
from layerferry.embedded_registry.credentials import Credentials
from layerferry.errors import RouteError
from layerferry.oci.documents import Document
from layerferry.processes import running_archive
from layerferry.routes.ngrok import agent as ngrok_agent
from layerferry.routes.ngrok.agent_api import LARGEST_REPLY, BoundedHandler
from layerferry.routes.ngrok.edge_check import check_edge
from layerferry.routes.ngrok.failures import ADVICE, explain, find_code
from layerferry.streams import keep_pipes
from layerferry.temporary import TemporaryFolder

#: Seconds from the agent's start to an open tunnel, and for its download where that is allowed.
START_TIMEOUT = 30.0
DOWNLOAD_TIMEOUT = 120.0
#: Seconds for the agent to log off from the service; a domain stays taken for a while if it does not.
_LOGGING_OFF = 3.0
_CLOSING = 3 * _LOGGING_OFF
#: The word that `__main__` knows, out of an archive: there the module path alone does not find all modules.
KEEP = "keep-tunnel"
#: With our own module path, whatever it is made of; -P keeps the current folder out of it.
_START = "import sys; sys.path[:] = sys.argv[1:]; from layerferry.routes.ngrok.tunnel import keep; keep()"
#: The agent's words for a form of tunnel that it does not know.
_DIGITS = re.compile(r"[0-9]{0,6}")
#: An address that can stand before an image's name: nothing but a host, and a port.
_ADDRESS = re.compile(r"https?://(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
#: ngrok's codes for an agent that it does not take any more.
_TOO_OLD = frozenset({"120", "121"})
_UNKNOWN_FORM = frozenset({400, 404, 405, 415, 422})


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An open tunnel, which was proved to refuse other credentials. `host` is the domain of image names."""

    url: str
    host: str
    credentials: Credentials = field(repr=False)


@contextlib.contextmanager
def open_tunnel(
    upstream: str,
    *,
    env: Mapping[str, str],
    token: str | None = None,
    domain: str = "",
    credentials: Credentials | None = None,
    own_realm: str = "",
    install: bool = False,
    timeout: float = START_TIMEOUT,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Tunnel]:
    """Open a tunnel to `upstream` (host:port, plain HTTP), and close it when the block ends.

    Without a `token` the agent's own configuration has it. `own_realm` is the realm of the registry behind, if that
    asks for credentials itself. The agent is downloaded only with `install`, then also where the one that is here, and
    which the user does not name, is too old. `tls` verifies the edge in place of the system's certificates. Raises
    `RouteError` with advice; then nothing is left of the tunnel either.
    """
    agent = agent_path(env, install=install)
    credentials = credentials or Credentials.generate()
    token = token or env.get("NGROK_AUTHTOKEN", "")
    order = {
        "agent": agent,
        "install": install and not ngrok_agent.is_named(env),
        "token": token,
        "upstream": f"http://{upstream}",
        "domain": domain,
        "user": credentials.user,
        "password": credentials.password,
        "timeout": timeout,
    }
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryFolder(error=RouteError))
        keeper = _Keeper(ngrok_agent.agent_environment(env, secrets=(token,), folder=Path(folder)))
        stack.callback(keeper.close)
        url = keeper.open({**order, "folder": folder}, timeout + (2 * DOWNLOAD_TIMEOUT if install else 0))
        check_edge(url, credentials, own_realm=own_realm, tls=tls, timeout=timeout)
        yield Tunnel(url, urlsplit(url).netloc, credentials)


def agent_path(env: Mapping[str, str], *, install: bool) -> str:
    """The agent's path, "" for one to be downloaded; raises `RouteError` where that is not allowed."""
    agent = ngrok_agent.find_agent(env)
    if agent is None and not install:
        raise RouteError(
            "ngrok's agent is not installed here",
            hint="Install it (https://ngrok.com/download), set NGROK_PATH, or set LAYERFERRY_NGROK_INSTALL=true.",
        )
    return str(agent or "")


def _keeper_command() -> list[str]:
    """What starts `keep` with our own interpreter: an executable is that itself, and has its modules at its end."""
    archive = running_archive()
    if not archive:
        return [sys.executable, "-P", "-c", _START, *sys.path]
    return [archive, KEEP] if archive == sys.executable else [sys.executable, "-P", archive, KEEP]


class _Keeper:
    """The keeper's process, from our side."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            _keeper_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(env),
            start_new_session=True,
        )

    def open(self, order: Mapping[str, Any], timeout: float) -> str:
        """The tunnel's public address; raises `RouteError`, also when there is none within `timeout` seconds."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        line = self._read_line(time.monotonic() + timeout)
        if line is None:
            raise RouteError(
                f"ngrok's agent opened no tunnel within {timeout:g} s",
                hint="It has to reach connect.ngrok-agent.com on port 443, past any proxy.",
            )
        return read_reply(line)

    def close(self) -> None:
        """End the keeper; what is left of its session after a while is killed."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        # Its end is seen, not reaped: until it is reaped nobody else can get its number, which is the group's as well.
        self._wait_for_end(time.monotonic() + _CLOSING)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def _wait_for_end(self, deadline: float) -> None:
        while self._read(deadline):
            pass

    def _read_line(self, deadline: float) -> bytes | None:
        """A line of the keeper's; what it wrote if it ended before, None when the time is up."""
        data = b""
        while b"\n" not in data and len(data) < LARGEST_REPLY:
            chunk = self._read(deadline)
            if chunk is None:
                return None
            if not chunk:
                break
            data += chunk
        return data

    def _read(self, deadline: float) -> bytes | None:
        """The next bytes; none at the end, None when the time is up."""
        assert self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(deadline - time.monotonic(), 0)):
                return None
        return os.read(self._process.stdout.fileno(), LARGEST_REPLY)


def read_reply(line: bytes) -> str:
    """The public address in the keeper's answer; raises `RouteError` with the error that it has instead."""
    if not line:
        raise explain("")
    try:
        reply = Document.parse(line, "the answer of ngrok's agent", most=LARGEST_REPLY, error=RouteError)
        url, code, detail = reply.text("url", ""), reply.text("code", ""), reply.text("detail", "")
        if url and not _ADDRESS.fullmatch(url):
            raise reply.damaged("its address is none of a tunnel")
    except RouteError as error:
        raise RouteError(error.message, hint="Update ngrok's agent, or use another route.") from None
    if not url:
        raise explain(code if _DIGITS.fullmatch(code) else "", detail)
    return url


def keep() -> None:
    """Run the keeper: read an order, open the tunnel, answer, and hold it until the pipe ends."""
    urllib.request.install_opener(urllib.request.build_opener(BoundedHandler))
    logging.disable(logging.CRITICAL)  # pyngrok logs what the service says of a token, and with it the token
    order_pipe, answer = keep_pipes()  # else the agent and pyngrok's progress bar would be in them
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = json.loads(_first_line(order_pipe))
    opened, gone = threading.Event(), threading.Event()
    threading.Thread(target=_watch, args=(order_pipe, opened, gone, Path(order["folder"])), daemon=True).start()
    agent = _Agent(order)
    try:
        reply = agent.open()
        opened.set()
        # Not closed before we end: that is how the other side sees the end.
        os.write(answer, json.dumps(reply).encode() + b"\n")
        gone.wait()
    finally:
        agent.close()


def _first_line(order_pipe: int) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        byte = os.read(order_pipe, 1)
        if not byte:
            sys.exit(0)
        data += byte
    return data


def _watch(order_pipe: int, opened: threading.Event, gone: threading.Event, folder: Path) -> None:
    """Wait for the pipe's end, give the main thread a moment to close the tunnel, and kill the session."""
    while os.read(order_pipe, 1):
        pass
    gone.set()
    if opened.is_set():
        time.sleep(2 * _LOGGING_OFF)
    shutil.rmtree(folder, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    sys.exit(128 + number)


class _Agent:
    """The agent, through pyngrok, which is imported here and nowhere else, and only in the keeper."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        from pyngrok import conf, ngrok, process  # noqa: PLC0415

        self._ngrok, self._process = ngrok, process
        self._order = order
        self._folder = Path(order["folder"])
        self._config = conf.PyngrokConfig(
            ngrok_path=order["agent"] or str(self._folder / "bin" / "ngrok"),
            config_path=str(self._folder / "ngrok.yml"),
            # Before the other side's timeout, so that it is told what the agent said.
            startup_timeout=max(1, int(order["timeout"] * 0.75)),
            request_timeout=max(1.0, order["timeout"] / 2),
            max_logs=50,
        )
        self._config.auth_token = None
        self._config.api_key = None
        self._token: str = order["token"]
        self._url = ""
        self._is_old = False

    def open(self) -> dict[str, str]:
        """The answer to the order: `url`, or a `code` of ngrok's and a `detail` without secrets."""
        reply = self._try()
        if self._order["install"] and self._order["agent"] and (self._is_old or reply.get("code") in _TOO_OLD):
            with contextlib.suppress(Exception):
                self._process.kill_process(self._config.ngrok_path)
            self._config.ngrok_path = str(self._folder / "bin" / "ngrok")
            self._order = {**self._order, "agent": ""}
            reply = self._try()
        return reply

    def _try(self) -> dict[str, str]:
        from pyngrok.exception import PyngrokError, PyngrokNgrokHTTPError  # noqa: PLC0415

        try:
            self._url = self._connect()
        except PyngrokNgrokHTTPError as error:
            return self._failure(error.body, f"its agent answers with HTTP {error.status_code}")
        except PyngrokError as error:
            return self._failure(str(error), getattr(error, "ngrok_error", None) or str(error))
        except RouteError as error:
            self._is_old = isinstance(error, ngrok_agent.OldAgentError)
            return {"code": find_code(error.message), "detail": f"{error.message}. {error.hint}"}
        except (OSError, subprocess.SubprocessError, http.client.HTTPException) as error:
            return self._failure("", getattr(error, "strerror", None) or type(error).__name__)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # pyngrok checks no answer
            return self._failure("", "its agent answers with something else than the API's documents")
        return {"url": self._url}

    def close(self) -> None:
        """Take the tunnel down, let the agent log off, and kill it if it does not."""
        path = self._config.ngrok_path
        self._config.request_timeout = _LOGGING_OFF / 2
        if self._url:
            with contextlib.suppress(Exception):
                self._ngrok.disconnect(self._url, self._config)
        with contextlib.suppress(Exception):
            if self._process.is_process_running(path):
                child = self._process.get_process(self._config).proc
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_LOGGING_OFF / 2)
        with contextlib.suppress(Exception):
            self._process.kill_process(path)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self) -> str:
        from pyngrok import installer  # noqa: PLC0415

        if not self._order["agent"]:
            installer.install_ngrok(self._config.ngrok_path)
        version = ngrok_agent.parse_version(self._process.capture_run_process(self._config.ngrok_path, ["--version"]))
        proxy = ""
        if not self._token:
            self._token, proxy = self._own_configuration()
        if not self._token:
            raise explain("4018")
        path = Path(self._config.config_path or "")
        path.touch(mode=0o600)
        path.write_text(ngrok_agent.configuration(version, self._token, proxy), encoding="utf-8")
        return self._first_form_that_is_understood(version)

    def _first_form_that_is_understood(self, version: tuple[int, int]) -> str:
        from pyngrok.exception import PyngrokNgrokHTTPError  # noqa: PLC0415

        credentials = Credentials(self._order["user"], self._order["password"])
        forms = ngrok_agent.tunnel_forms(version, credentials, self._order["domain"])
        for number, (api, options) in enumerate(forms, 1):
            self._config.config_version = api
            # An explicit name without slashes: the default one holds the address, and could not be deleted by its path.
            name = f"layerferry-{random.token_hex(8)}"
            try:
                tunnel = self._ngrok.connect(self._order["upstream"], "http", name, self._config, **options)
            except PyngrokNgrokHTTPError as error:
                known = find_code(error.body) in ADVICE
                if known or error.status_code not in _UNKNOWN_FORM or number == len(forms):
                    raise
            else:
                return tunnel.public_url or ""
        raise AssertionError

    def _own_configuration(self) -> tuple[str, str]:
        """The token and proxy of the agent's own configuration file, where there is one."""
        from pyngrok import conf, installer  # noqa: PLC0415

        paths = [Path(conf.DEFAULT_NGROK_CONFIG_PATH)]
        with contextlib.suppress(RuntimeError):  # a user without a home
            paths += [Path.home() / ".config/ngrok/ngrok.yml", Path.home() / ".ngrok2/ngrok.yml"]
        for path in paths:
            if is_there(path, stat.S_ISREG):
                document = installer.get_ngrok_config(str(path), use_cache=False)
                nested = document.get("agent")
                agent = nested if isinstance(nested, dict) else document
                if agent.get("authtoken"):
                    return str(agent["authtoken"]), str(agent.get("proxy_url") or "")
        return "", ""

    def _failure(self, text: str, detail: str) -> dict[str, str]:
        secrets = (self._token, *Credentials(self._order["user"], self._order["password"]).secrets)
        return {"code": find_code(text), "detail": ngrok_agent.redact(detail, tuple(filter(None, secrets)))}
