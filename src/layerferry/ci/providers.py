"""The CI that runs us, from its environment variables.

These name the provider, never the topology: one provider runs jobs in virtual machines, containers and pods.
docs/environments.md has the page of each provider that says so.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from layerferry.errors import UsageError

#: The values of a switch variable that is off; a variable with one of these names no CI.
_OFF = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Provider:
    """A CI system.

    `marks` are alternatives; each maps variables to the value that they must hold, or to "" where any value but an
    off switch will do. All variables of one alternative are needed. `folder` is one that only its jobs have, for a
    provider that sets no variable.
    """

    key: str
    name: str
    marks: tuple[Mapping[str, str], ...] = field(default=(), repr=False, hash=False)
    folder: str = ""

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
HARNESS = Provider("harness", "Harness CI", ({"HARNESS_BUILD_ID": ""},))
DRONE = Provider("drone", "Drone", ({"DRONE": ""},))
TRAVIS = Provider("travis", "Travis CI", ({"TRAVIS": ""},))
TEAMCITY = Provider("teamcity", "TeamCity", ({"TEAMCITY_VERSION": ""},))
SEMAPHORE = Provider("semaphore", "Semaphore", ({"SEMAPHORE": ""},))
CIRRUS = Provider("cirrus", "Cirrus CI", ({"CIRRUS_CI": ""},))
CODEFRESH = Provider("codefresh", "Codefresh", ({"CF_BUILD_ID": ""},))
APPVEYOR = Provider("appveyor", "AppVeyor", ({"APPVEYOR": ""},))
NETLIFY = Provider("netlify", "Netlify", ({"NETLIFY": ""},))
VERCEL = Provider("vercel", "Vercel", ({"VERCEL": ""},))
BUDDY = Provider("buddy", "Buddy", ({"BUDDY": ""}, {"BUDDY_WORKSPACE_ID": ""}))
ONEDEV = Provider("onedev", "OneDev", ({"ONEDEV_WORKSPACE": ""},))
SCREWDRIVER = Provider("screwdriver", "Screwdriver", ({"SCREWDRIVER": ""},))
RENDER = Provider("render", "Render", ({"RENDER": ""},))
CLOUDBUILD = Provider("cloudbuild", "Google Cloud Build", ({"BUILDER_OUTPUT": ""},))
#: A task of Concourse has no variable of Concourse's: only its resources have.
CONCOURSE = Provider("concourse", "Concourse", ({"ATC_EXTERNAL_URL": "", "BUILD_TEAM_NAME": ""},))
TEKTON = Provider("tekton", "Tekton", folder="/tekton/steps")
DAGGER = Provider("dagger", "Dagger", ({"DAGGER_SESSION_PORT": "", "DAGGER_SESSION_TOKEN": ""},))
#: Earthly's own variables are there where the Earthfile declares them (ARG), and around WITH DOCKER.
EARTHLY = Provider(
    "earthly", "Earthly", ({"EARTHLY_CI": ""}, {"EARTHLY_CI_RUNNER": ""}, {"EARTHLY_DOCKERD_DATA_ROOT": ""})
)
CODEBUILD = Provider("codebuild", "AWS CodeBuild", ({"CODEBUILD_BUILD_ARN": ""}, {"CODEBUILD_BUILD_ID": ""}))
GENERIC = Provider("generic", "a CI", ({"CI": ""}, {"CONTINUOUS_INTEGRATION": ""}))
NONE = Provider("none", "no CI")

#: The first that matches is it. A fork comes before what it pretends to be: Forgejo sets Gitea's variable, and both set
#: GitHub's, through the act engine beneath them. Woodpecker comes before Drone, whose variables its older versions
#: kept, as does Harness, which sets them all. CodeBuild runs other providers' runners, which inherit its variables, so
#: that it comes late; so do build tools that run within a CI, and Tekton, on which other providers are built.
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
    HARNESS,
    DRONE,
    TRAVIS,
    TEAMCITY,
    SEMAPHORE,
    CIRRUS,
    CODEFRESH,
    APPVEYOR,
    NETLIFY,
    VERCEL,
    BUDDY,
    ONEDEV,
    SCREWDRIVER,
    RENDER,
    JENKINS,
    CONCOURSE,
    CLOUDBUILD,
    CODEBUILD,
    DAGGER,
    EARTHLY,
    TEKTON,
    GENERIC,
)


def is_on(value: str | None) -> bool:
    """Whether a switch variable is on: set, and to no value that means off."""
    return (value or "").strip().lower() not in _OFF


#: Folders by which providers are known, to be looked for on this machine.
FOLDERS = tuple(provider.folder for provider in PROVIDERS if provider.folder)


def detect(
    env: Mapping[str, str], *, override: str = "", folders: Collection[str] = frozenset()
) -> tuple[Provider, str]:
    """The provider that `env` names, or one of the `folders` that exist, and what names it.

    `override` is a provider's key as the user set it, and wins; raises `UsageError` on an unknown one. `CI=false`
    means none, as it does to ci-info, whatever else is set.
    """
    if override:
        return named(override), f"LAYERFERRY_CI={override}"
    if "CI" in env and env["CI"].strip() and not is_on(env["CI"]):
        return NONE, f"CI={env['CI']}"
    for provider in PROVIDERS:
        for marks in provider.marks:
            if all(_matches(env.get(name), wanted) for name, wanted in marks.items()):
                return provider, " and ".join(f"{name} is {wanted or 'set'}" for name, wanted in marks.items())
        if provider.folder in folders:
            return provider, f"{provider.folder} exists"
    return NONE, "no variable of a CI is set"


def named(key: str) -> Provider:
    """The provider of that key, or of that name; raises `UsageError` where there is none."""
    for provider in (*PROVIDERS, NONE):
        if key.strip().lower() in {provider.key, provider.name.lower()}:
            return provider
    known = ", ".join(provider.key for provider in (*PROVIDERS, NONE))
    raise UsageError(f"{key!r} is not a CI that layerferry knows", hint=f"It knows {known}.")


def _matches(value: str | None, wanted: str) -> bool:
    return (value or "").strip().lower() == wanted if wanted else is_on(value)
