"""What is fast, against what a user would take instead: `python -m tests.benchmarks`. Nothing here is a test."""
