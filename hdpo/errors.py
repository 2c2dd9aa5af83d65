"""Errors as sentences: what was expected, what was found, what to do. Pages and terminal show them as they are."""

OK, FAILED, BAD_INPUT, BUSY, STOPPED = 0, 1, 2, 3, 130  # exit codes


def brief(text: object, most: int = 200) -> str:
    """What a file or another library says, as part of a sentence: on one line, printable, not long.

    >>> brief("cut\\n off\\x00", 6)
    'cut of'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * most]).split())[:most]


def first_line(e: BaseException, most: int = 200) -> str:
    """The first line of what a library raised, or the name of its class where it says nothing."""
    return (str(e).strip() or type(e).__name__).splitlines()[0][:most]


class HdpoError(Exception):
    """Anything this project raises on purpose; its text is meant for a person."""


class BadInput(HdpoError):
    """A setting, file or folder that a person can mend."""


class Busy(HdpoError):
    """Another heavy job holds the machine; the text names it."""


class Stopped(HdpoError):
    """The work was asked to stop, and stopped at a place from which it can go on."""
