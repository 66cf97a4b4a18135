"""Patches of layers: what a target has of a layer in the files of older images is not sent again."""
