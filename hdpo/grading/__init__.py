"""Completion and gold → outcome, in processes that can be killed."""
