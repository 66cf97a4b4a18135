"""Prints the README's table of settings."""

import sys

from layerferry.settings.model import table

sys.stdout.write(table())
