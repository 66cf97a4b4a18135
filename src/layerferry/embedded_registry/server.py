"""The embedded registry, `with Registry(spool=..., limit=...) as registry`, for any number of pushes."""

import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from layerferry.embedded_registry.credentials import BasicAuth
from layerferry.embedded_registry.handlers import Handlers
from layerferry.embedded_registry.http_server import Request, Response, Server
from layerferry.embedded_registry.push_repository import PushRepository
from layerferry.embedded_registry.spool import Spool
from layerferry.errors import SourceError


class Registry:
    """A registry that listens from `__enter__` to `__exit__`, in threads of its own.

    `spool` is the folder in which a private one is made for the blobs, and removed with all that is in it at the end;
    `limit` bounds the bytes in it. `address` is (host, port), where port 0 takes a free one. `credentials` is (user,
    password), or None to ask for none: a repository's name is a secret too. `observe` hears of each request and its
    answer, in the connection's thread, and `fault` of an error of ours there, which was answered with a status of 500.
    """

    def __init__(
        self,
        *,
        spool: Path,
        limit: int,
        address: tuple[str, int] = ("127.0.0.1", 0),
        credentials: tuple[str, str] | None = None,
        observe: Callable[[Request, Response], None] | None = None,
        fault: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._parent = spool
        self._limit = limit
        self._address = address
        self._observe = observe
        self._told = fault
        self._repositories: dict[str, PushRepository] = {}
        self._service = Handlers(self._repositories, BasicAuth(*credentials) if credentials else None)
        self._faults: list[Exception] = []

    def __enter__(self) -> Self:
        """Listen. Raises `SourceError` where the address is taken, or the folder cannot be written."""
        try:
            with ExitStack() as stack:
                folder = Path(tempfile.mkdtemp(prefix="registry-", dir=self._parent))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                self._spool = Spool(folder, self._limit)
                self._server = Server(self._address, self._answer, self._fault)
                stack.callback(self._close)
                self._server.start()
                self._stack = stack.pop_all()
        except OSError as error:
            raise SourceError(f"our registry cannot be started: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _close(self) -> None:
        """Take no more connections, end those that there are, and only then discard what they were writing."""
        for repository in self._repositories.values():
            repository.abort("the registry was closed")
        self._server.close()
        for repository in self._repositories.values():
            repository.close()

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def faults(self) -> tuple[Exception, ...]:
        """The errors of ours that were answered with a status of 500. There should be none."""
        return tuple(self._faults)

    def repository(self) -> PushRepository:
        """A new repository, whose name nobody can guess."""
        repository = PushRepository(f"layerferry/{secrets.token_hex(16)}", self._spool)
        self._repositories[repository.name] = repository
        return repository

    def _fault(self, error: Exception) -> None:
        self._faults.append(error)
        self._told(error)

    def _answer(self, request: Request) -> Response:
        response = self._service(request)
        if self._observe:
            self._observe(request, response)
        return response
