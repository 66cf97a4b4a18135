"""Moves container images to machines that are reached over SSH, and sends only what they lack."""

__version__ = "0.2.0"
