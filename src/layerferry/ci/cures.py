"""What a job lacks where it has no daemon, or where its daemon lacks an image: each CI's own cure.

docs/environments.md has the page of each provider that says so.
"""

from collections.abc import Mapping

from layerferry.ci import providers
from layerferry.errors import UsageError

_ACTIONS = (
    "A job with `container:` has no daemon of its own: mount /var/run/docker.sock as one of its `volumes`, or run this "
    "step on the runner itself. Runners with macOS or Windows have none."
)
_DAEMON: Mapping[str, str] = {
    "github": _ACTIONS,
    "gitea": _ACTIONS,
    "forgejo": _ACTIONS,
    "gitlab": "Give the job `services: [docker:dind]`, DOCKER_HOST=tcp://docker:2376, DOCKER_TLS_CERTDIR=/certs, "
    "DOCKER_CERT_PATH=/certs/client and DOCKER_TLS_VERIFY=1; its runner has to be privileged.",
    "circleci": "Put `- setup_remote_docker` before the first step that needs docker, or take a `machine:` executor.",
    "bitbucket": "Give the step `services: [docker]`.",
    "azure": "A container job has no daemon: give the step `target: host`.",
    "travis": "Add `services: docker` to .travis.yml.",
    **dict.fromkeys(
        ("drone", "woodpecker"),
        "Mount the host's /var/run/docker.sock, which takes a trusted repository, or run a docker:dind service.",
    ),
    "jenkins": "The agent needs a daemon: give its container /var/run/docker.sock, and its user the right to use it.",
    "buildkite": "The agent needs a daemon: install docker beside it, or give its pod a docker:dind sidecar.",
}
_BUILT = "`docker buildx build` leaves an image in its builder unless it has --load."
_IMAGE: Mapping[str, str] = {
    "github": "docker/build-push-action leaves an image in its builder unless it has `load: true`, and "
    "`docker buildx build` unless it has --load. What another job has built is on another machine.",
    "gitlab": f"Each job has a docker:dind of its own: build it in this job, or pull it. {_BUILT}",
    "circleci": f"Each job has a daemon of its own: build it in this job, or pull it. {_BUILT}",
}


def without_daemon(environ: Mapping[str, str]) -> str:
    """What a job of this CI has to do to have a daemon; nothing where we do not know."""
    return _DAEMON.get(_provider(environ), "")


def without_image(environ: Mapping[str, str]) -> str:
    """What to do where the daemon lacks an image."""
    key = _provider(environ)
    if key in _IMAGE:
        return _IMAGE[key]
    return f"Build or pull it first; `docker image ls` shows what is there. {_BUILT}"


def _provider(environ: Mapping[str, str]) -> str:
    try:
        return providers.detect(environ, override=environ.get("LAYERFERRY_CI", ""))[0].key
    except UsageError:  # it is told elsewhere
        return ""
