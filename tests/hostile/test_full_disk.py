"""A folder for temporary files that has less room than an image: a file system of 4 MiB, in a mount of our own."""

import os
import re
from pathlib import Path

import pytest

from hostile.claims import only_asked, within_bounds
from hostile.command import Command
from hostile.test_ssh import Ssh

#: Whoever is not root becomes it in a namespace of users.
MOUNT = f"""
exec unshare -{"" if os.geteuid() == 0 else "r"}m sh -ec '
    mount -t tmpfs -o size=4m none "$TMPDIR"
    "$@" && code=0 || code=$?
    find "$TMPDIR" -mindepth 1
    exit "$code"
' sh "$@"
"""
TOLD = r"layers cannot be kept in \S+: .*\d+ bytes free, (\d+ needed|more needed for a layer of 30\d{6} bytes)"


@pytest.fixture
def ssh(tmp_path: Path, layerferry: Command) -> Ssh:
    return Ssh(tmp_path, layerferry)


def test_several_targets_are_told_and_the_old_image_stays(ssh: Ssh) -> None:
    text = within_bounds(ssh("good", "--to", "good", size=30_000_000, shell=MOUNT), (3,))
    assert len(re.findall(TOLD, text)) >= 2
    assert not re.search(r"^/", text, re.MULTILINE), "it leaves files behind"
    only_asked(ssh.heard, sent=True)


def test_one_target_needs_no_room(ssh: Ssh) -> None:
    assert "verified on good" in within_bounds(ssh("good", size=30_000_000, shell=MOUNT), (0,))
