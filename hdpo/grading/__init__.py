"""Completion and gold → outcome, in processes that can be killed."""

from typing import Any

from hdpo.records import Outcome

RULES = 2
"""Which answers are correct. Raised with every change of the grader that changes a verdict: results of before and after are
then not compared."""

Request = dict[str, str]  # to such a process, a line of JSON each, and what it replies
Reply = dict[str, Any]
AS_TEXT, NOWHERE = "character by character", "no answer stands where this grader looks"  # rules
NO_VERDICT: Reply = {"ok": False, "outcome": Outcome.GRADER_ERROR.value}
