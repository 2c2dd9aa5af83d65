"""The terminal: `python -m hdpo`."""
