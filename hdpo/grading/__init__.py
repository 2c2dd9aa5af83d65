"""Completion and gold → outcome, in processes that can be killed."""

RULES = 2
"""Which answers are correct. Raised with every change of the grader that changes a verdict: results of before and after are
then not compared."""
