"""Nasty input in bulk, on demand: `python -m tests.fuzz problems --seed 0 --count 9000`. Nothing here is a test."""
