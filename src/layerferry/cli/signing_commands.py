"""The commands `sign` and `verify`."""

from typing import Any

import click

from layerferry import settings
from layerferry.cli import options
from layerferry.cli.around import end
from layerferry.cli.options import option
from layerferry.streams import stdout

# What a command needs is loaded when it runs.
# ruff: noqa: PLC0415


@click.command(cls=options.Command, examples=("layerferry sign app:2 --key ~/.ssh/release --expires 30d > app.sig",))
@click.argument("image")
@option("--key", required=True, metavar="KEY", help="A private key, or the public one of a key that an agent has.")
@option("--name", "names", multiple=True, metavar="NAME[:TAG]", help="A name that it may get.  [repeatable]")
@option("--expires", default="", metavar="TIME", help="How long it may be pushed: 12h, 30d.  [default: no end]")
@options.PLATFORM
@option("--output", default="-", metavar="FILE", help="Where the signature goes.  [default: stdout]")
@options.DEBUG
def sign(image: str, *, platform: str | None, **given: Any) -> None:
    """Sign an image for the names that it may get on a target, with an SSH key."""
    from layerferry import image_signing

    stdout().write(image_signing.sign(settings.load({"platform": platform}), image, **given))
    end(0, asked=True)


@click.command(cls=options.Command, examples=("layerferry verify app:2 --signature app.sig --signers allowed_signers",))
@click.argument("image", metavar="IMAGE|FILE")
@option("--signers", required=True, metavar="FILE", help="Whose signatures are good: allowed_signers(5).")
@option("--signature", "signatures", multiple=True, metavar="FILE", help="One on IMAGE.  [repeatable]")
@option("--revoked", multiple=True, metavar="FILE", help="Keys that count no longer.  [repeatable]")
@options.PLATFORM
@options.DEBUG
def verify(image: str, *, platform: str | None, **given: Any) -> None:
    """Show who has signed an image, and when."""
    from layerferry import image_signing

    for line in image_signing.verify(settings.load({"platform": platform}), image, **given):
        stdout().line(line)
    end(0, asked=True)
