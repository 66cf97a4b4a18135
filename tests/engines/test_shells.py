"""Whatever a user's login shell is, and whatever it prints, the conversation takes place."""

import pytest

from engines.test_push_scene import APP, Scene, actions, assert_arrived
from rig import SHELLS

#: The one whose machine has all of these shells.
pytestmark = pytest.mark.kinds(target=("docker20-overlay2",))


def with_shell(scene: Scene, shell: str) -> str:
    sshd = scene.target.sshd
    assert sshd is not None
    if f"\n{shell}:" in scene.target.machine.path("/etc/passwd").read_text():
        return f"{sshd.alias}-{shell}"
    return sshd.with_shell(shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_login_shell_of_any_kind(scene: Scene, shell: str) -> None:
    """The same host, the same session, the same delta."""
    scene.build(scene.base())
    alias = with_shell(scene, shell)
    told = scene.rig.ssh.run(alias, "echo $0" if shell != "fish" else "echo fish")
    assert shell in told
    result = scene.push(APP, to=alias).result
    assert actions(result) == ["reuse", "reuse", "send"]
    assert_arrived(scene, result)


NOISE = {
    ".bashrc": ("bash", "echo Welcome; echo failed logins: 0; echo end; printf 'no newline: '; echo >&2 warned"),
    ".zshenv": ("zsh", "echo Welcome; echo failed services: 2; echo end; echo >&2 warned"),
    ".tcshrc": ("tcsh", "echo Welcome\necho failed logins: 0\necho end"),
    ".config/fish/config.fish": ("fish", "echo Welcome; echo failed logins: 0; echo end; echo warned >&2"),
}


@pytest.mark.parametrize("file", NOISE)
def test_what_a_login_shell_prints_is_not_taken_for_an_answer(scene: Scene, file: str) -> None:
    """A `.bashrc` that greets breaks scp and rsync. Not us."""
    shell, noise = NOISE[file]
    scene.load([scene.layer()])
    alias = with_shell(scene, shell)
    path = f"/root/{file}"
    scene.target.machine.write(path, f"{noise}\n")
    try:
        assert "Welcome" in scene.rig.ssh.run(alias, "true")
        assert_arrived(scene, scene.push(APP, to=alias).result)
    finally:
        scene.target.machine.run("rm", path)


def test_a_host_that_talks_and_never_greets_is_quoted(scene: Scene) -> None:
    scene.load([scene.layer()])
    host = scene.sshd("ForceCommand echo This account is not available.")
    run = scene.push(APP, to=host, code=5)
    assert "This account is not available." in run.stderr
