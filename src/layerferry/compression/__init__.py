"""Compression: of the delta archive as one stream, and of single layers for registries."""
