"""How fast the broker is, measured through the client that agencies use: `python -m bench`."""
