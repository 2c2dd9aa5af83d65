"""Pieces of a page that several pages draw: a figure with its note and table, a rollout, a token lens."""
