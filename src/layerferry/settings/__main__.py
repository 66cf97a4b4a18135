"""A command that prints the README's table of settings."""

import sys

from layerferry.settings.values import table

sys.stdout.write(table())
