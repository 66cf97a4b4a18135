"""The CI that runs us, from its environment variables.

These name the provider, never the topology: one provider runs jobs in virtual machines, containers and pods.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from layerferry.errors import UsageError

#: The values of a switch variable that is off; a variable with one of these names no CI.
_OFF = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Provider:
    """A CI system.

    `marks` are alternatives; each maps variables to the value that they must hold, or to "" where any value but an
    off switch will do. All variables of one alternative are needed.
    """

    key: str
    name: str
    marks: tuple[Mapping[str, str], ...] = field(default=(), repr=False, hash=False)

    def __str__(self) -> str:
        return self.name


# Names of variables: the providers' own documentation, and the tables of watson/ci-info and semantic-release/env-ci.
FORGEJO = Provider("forgejo", "Forgejo Actions", ({"FORGEJO_ACTIONS": ""},))
GITEA = Provider("gitea", "Gitea Actions", ({"GITEA_ACTIONS": ""},))
WOODPECKER = Provider("woodpecker", "Woodpecker", ({"CI": "woodpecker"}, {"CI_SYSTEM_NAME": "woodpecker"}))
GITHUB = Provider("github", "GitHub Actions", ({"GITHUB_ACTIONS": ""},))
GITLAB = Provider("gitlab", "GitLab CI", ({"GITLAB_CI": ""},))
CIRCLECI = Provider("circleci", "CircleCI", ({"CIRCLECI": ""},))
BITBUCKET = Provider("bitbucket", "Bitbucket Pipelines", ({"BITBUCKET_BUILD_NUMBER": ""}, {"BITBUCKET_COMMIT": ""}))
AZURE = Provider("azure", "Azure Pipelines", ({"TF_BUILD": ""},))
JENKINS = Provider("jenkins", "Jenkins", ({"JENKINS_URL": "", "BUILD_ID": ""}, {"JENKINS_HOME": "", "BUILD_ID": ""}))
BUILDKITE = Provider("buildkite", "Buildkite", ({"BUILDKITE": ""},))
DRONE = Provider("drone", "Drone", ({"DRONE": ""},))
TRAVIS = Provider("travis", "Travis CI", ({"TRAVIS": ""},))
TEAMCITY = Provider("teamcity", "TeamCity", ({"TEAMCITY_VERSION": ""},))
CODEBUILD = Provider("codebuild", "AWS CodeBuild", ({"CODEBUILD_BUILD_ARN": ""}, {"CODEBUILD_BUILD_ID": ""}))
GENERIC = Provider("generic", "a CI", ({"CI": ""}, {"CONTINUOUS_INTEGRATION": ""}))
NONE = Provider("none", "no CI")

#: The first that matches is it. A fork comes before what it pretends to be: Forgejo sets Gitea's variable, and both set
#: GitHub's, through the act engine beneath them. Woodpecker comes before Drone, whose variables its older versions
#: kept. CodeBuild runs other providers' runners, which inherit its variables, so that it comes late.
PROVIDERS: tuple[Provider, ...] = (
    FORGEJO,
    GITEA,
    WOODPECKER,
    GITHUB,
    GITLAB,
    CIRCLECI,
    BITBUCKET,
    AZURE,
    BUILDKITE,
    DRONE,
    TRAVIS,
    TEAMCITY,
    JENKINS,
    CODEBUILD,
    GENERIC,
)


def is_on(value: str | None) -> bool:
    """Whether a switch variable is on: set, and to no value that means off."""
    return (value or "").strip().lower() not in _OFF


def detect(env: Mapping[str, str], *, override: str = "") -> tuple[Provider, str]:
    """The provider that `env` names, and the variables that name it.

    `override` is a provider's key as the user set it, and wins; raises `UsageError` on an unknown one. `CI=false`
    means none, as it does to ci-info, whatever else is set.
    """
    if override:
        return _named(override), f"set to {override}"
    if "CI" in env and env["CI"].strip() and not is_on(env["CI"]):
        return NONE, f"CI={env['CI']}"
    for provider in PROVIDERS:
        for marks in provider.marks:
            if all(_matches(env.get(name), wanted) for name, wanted in marks.items()):
                return provider, " and ".join(f"{name} is {wanted or 'set'}" for name, wanted in marks.items())
    return NONE, "no variable of a CI is set"


def _named(key: str) -> Provider:
    for provider in (*PROVIDERS, NONE):
        if provider.key == key.strip().lower():
            return provider
    known = ", ".join(provider.key for provider in (*PROVIDERS, NONE))
    raise UsageError(f"{key!r} is not a CI that layerferry knows", hint=f"It knows {known}.")


def _matches(value: str | None, wanted: str) -> bool:
    return (value or "").strip().lower() == wanted if wanted else is_on(value)
