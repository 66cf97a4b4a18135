"""What a child gets of our environment."""

from layerferry.processes import PREFIX, SECRET_VARIABLES, child_environment
from layerferry.settings.values import FIELDS, variables

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----\n"
TOKEN = "2aToken_of_these_tests"
PLAIN = {"PATH": "/bin", "HOME": "/home/me", "SSH_AUTH_SOCK": "/run/agent", "https_proxy": "http://p:1"}


def test_none_of_our_variables_reaches_a_child() -> None:
    ours = {variable: "x" for field in FIELDS for variable in variables(field.name) if variable.startswith(PREFIX)}
    assert child_environment({**PLAIN, **ours, "LAYERFERRY_OF_TOMORROW": "x"}) == PLAIN


def test_nor_any_secret_of_older_pipelines_or_of_docker() -> None:
    others = dict.fromkeys(("NGROK_AUTHTOKEN", "NGROK_API_KEY", "DOCKER_REGISTRY_NGROK", "DOCKER_AUTH_CONFIG"), "x")
    assert child_environment({**PLAIN, **others}) == PLAIN


def test_names_count_in_any_case_as_settings_are_read() -> None:
    assert child_environment({**PLAIN, "layerferry_ssh_key": "x", "Ngrok_Authtoken": "x"}) == PLAIN


def test_a_secret_is_hidden_under_every_name_that_the_pipeline_has_it_by() -> None:
    env = {**PLAIN, "LAYERFERRY_SSH_KEY": f"{KEY}", "DEPLOY_KEY": KEY, "NGROK_AUTHTOKEN": TOKEN, "ARGS": f"-t {TOKEN}"}
    assert child_environment(env) == PLAIN
    assert child_environment({**PLAIN, "MINE": "my token here"}, secrets=("token", "")) == PLAIN


def test_a_word_or_a_path_hides_nothing_else() -> None:
    more = {"CI": "true", "KEYS": "/home/me/.ssh/id_ed25519:/etc/key"}
    env = {**PLAIN, **more, "DOCKER_REGISTRY_NGROK": "true", "LAYERFERRY_SSH_KEY": "/home/me/.ssh/id_ed25519"}
    assert child_environment(env) == {**PLAIN, **more}


def test_every_setting_that_is_secret_is_in_the_table() -> None:
    secret = {variable for field in FIELDS if field.metadata["secret"] for variable in variables(field.name)}
    assert secret <= SECRET_VARIABLES
