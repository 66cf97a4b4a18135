"""The CI that runs us: its provider, this job's topology, the output that it understands, and its secrets for ssh."""

from typing import TYPE_CHECKING

from layerferry import lazy

if TYPE_CHECKING:
    from layerferry.ci.askpass import open_askpass, secret_line
    from layerferry.ci.cures import without_daemon, without_image
    from layerferry.ci.dialects import open_output
    from layerferry.ci.output import Output, Wishes
    from layerferry.ci.probes import probe
    from layerferry.ci.ssh_identity import open_identity
else:
    __getattr__ = lazy.attributes(
        __name__,
        {
            "Output": "output",
            "Wishes": "output",
            "open_askpass": "askpass",
            "open_identity": "ssh_identity",
            "open_output": "dialects",
            "probe": "probes",
            "secret_line": "askpass",
            "without_daemon": "cures",
            "without_image": "cures",
        },
    )

__all__ = [
    "Output",
    "Wishes",
    "open_askpass",
    "open_identity",
    "open_output",
    "probe",
    "secret_line",
    "without_daemon",
    "without_image",
]
