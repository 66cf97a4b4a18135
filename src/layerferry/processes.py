"""The processes that we start: the environment that they get, and their end."""

import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

#: The prefix of our variables. No child needs one: it gets all on its command line or stdin.
PREFIX: Final = "LAYERFERRY_"
#: Variables that hold a secret of this job which is for us alone. `settings.values` says of each what it is for;
#: DOCKER_AUTH_CONFIG is GitLab's and docker's (logins), NGROK_API_KEY is pyngrok's.
SECRET_VARIABLES: Final = frozenset(
    {
        "DOCKER_AUTH_CONFIG",
        "DOCKER_REGISTRY_NGROK",
        "NGROK_API_KEY",
        "NGROK_AUTHTOKEN",
        "LAYERFERRY_DOCKER_REGISTRY_NGROK",
        "LAYERFERRY_NGROK_AUTHTOKEN",
        "LAYERFERRY_SIGN_KEY",
        "LAYERFERRY_SSH_KEY",
        "LAYERFERRY_SSH_PASSPHRASE",
        "LAYERFERRY_SSH_PASSWORD",
        "LAYERFERRY_SUDO_PASSWORD",
    }
)
#: A shorter value is a word such as `true`, which others may have by chance.
_SHORTEST = 16
_PATIENCE = 5


def running_archive() -> str:
    """The file that we run out of, an executable or a .pyz; empty for an installed package."""
    return str(getattr(getattr(sys.modules["__main__"], "__loader__", None), "archive", ""))


def child_environment(environ: Mapping[str, str], *, secrets: Collection[str] = ()) -> dict[str, str]:
    """The environment for a child: ours without our variables and secrets, under whatever name a pipeline has them.

    ssh hands variables on (ssh_config(5), SendEnv), as do its ProxyCommand and every helper. `secrets` are further
    values that the child must not see. Names count in any case, since settings are read so.
    """
    hidden = (*filter(None, secrets), *secret_values(environ))
    return {
        name: value
        for name, value in environ.items()
        if not _is_ours(name) and not any(secret in value for secret in hidden)
    }


def _is_ours(name: str) -> bool:
    return name.upper().startswith(PREFIX) or name.upper() in SECRET_VARIABLES


def secret_values(environ: Mapping[str, str]) -> Iterator[str]:
    """The secrets of a job, by which other variables are known that hold one, too. A path to a key is none."""
    for name, value in environ.items():
        secret = value.strip()
        if name.upper() in SECRET_VARIABLES and len(secret) >= _SHORTEST and not secret.startswith(("/", "~", "./")):
            yield secret


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process: terminate it, kill it where it does not heed that, and wait for its status."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
