"""What the user's own ssh has set for a host, as `ssh -G` tells it."""

import os
import subprocess
from collections.abc import Sequence

from layerferry.processes import child_environment
from layerferry.settings import environment


def told_by_ssh(words: Sequence[str]) -> dict[str, str]:
    """Its options by their names in lower case; nothing where it fails. `words` is a command line with `-G` in it."""
    try:
        shown = subprocess.run(
            words, capture_output=True, check=False, timeout=10, env=child_environment(environment())
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.partition(" ")[::2] for line in os.fsdecode(shown).splitlines())
