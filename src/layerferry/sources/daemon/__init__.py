"""A docker daemon as a source: its API, what it pushes to us, and what it saves."""
