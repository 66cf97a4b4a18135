"""The acceptance suite of the doors: all that is foreign, played by its worst, in front of the command alone."""
