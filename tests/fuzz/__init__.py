"""Hostile clients for `layerferry receive`, and engines that see through them."""
