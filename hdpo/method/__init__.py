"""The paper, from top to bottom."""
