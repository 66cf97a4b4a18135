"""The acceptance suite of the doors: whatever is foreign, played by its worst. Black boxes, through the command alone."""
