r"""Reads a gold or an answer before math-verify does: the same tables for both sides, and no parser of its own.

What math-verify gets has its braces, no decoration and no unit. What it would misread is kept from it: words (to it
products of letters), clock times (fractions), digits with a space between (sums). assets/GRADING.md has the rules in
words, with examples that are tests. Nothing here imports sympy.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from hdpo.grading.boxes import inside

LONGEST_NUMBER = 1000  # digits in a row; what is longer equals its own text and nothing else


class Kind(Enum):
    """How a reading is compared."""

    MATH = "by math-verify"
    TEXT = "as written"  # where the gold is such
    OPAQUE = "as written, whichever side it is"  # to compute it would be wrong, or take for ever
    NOTHING = "not at all"  # a gold like that is ungradable


@dataclass(frozen=True)
class Reading:
    """One side. text: TeX for math-verify, or words. name: x of `x = 5`. unit: in one spelling, "" if not in MEASURES."""

    text: str
    kind: Kind
    name: str = ""
    unit: str = ""
    percent: bool = False


_ARGUMENT = r"(\\(?!frac|sqrt|binom|left|text|math)[a-zA-Z]+|[0-9a-zA-Z])"  # what TeX takes where braces are missing
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_COMMAND = r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf)|mbox|operatorname)\s*"
_GAP = r"(?:(?<!\\)\\[,;:! ]|[~\s])"  # TeX's spaces; behind one more backslash it is a matrix's next row
_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9}


def _mixed(match: re.Match[str]) -> str:
    whole, over, under = match.groups()
    return rf"{whole}\frac{{{over}}}{{{under}}}" if int(over) < int(under) else match[0]


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, again = match.groups()
    value = Fraction(int(whole + fixed) + Fraction(int(again), 10 ** len(again) - 1), 10 ** len(fixed))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def _based(match: re.Match[str]) -> str:
    digits, base = match[1], int(match[2])
    return str(int(digits, base)) if 1 < base < 37 and all(int(d, 36) < base for d in digits) else match[0]


# Around the whole of it: the group is what counts.
WRAPPERS = (
    r"(-?\$?[\d.,/ ]*\d)\s*\n.*",
    r"\$\$?([^$]+)\$\$?",
    r"\\\((.+)\\\)",
    r"\\\[(.+)\\\]",
    r"\*\*(.+)\*\*",
    rf"(?:\\boxed\s*|{_COMMAND})?\{{((?:[^{{}}]|{_GROUP})*)\}}",
    r"(.*[^.\\\s])\s*\.+",
)
# A gold like this is none: nobody can be right about it.
NOTHINGS = (
    r"|n/?a|not applicable|proof|omitted|no answer|\?+|-+|(the )?answers? (will|may|can) vary"
    r"|see (the )?(text|solution|explanation|proof|figure|above|below)"
)
REWRITES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"[−–‒]", "-"),
    (r"[\u00a0\u2000-\u200a\u202f]", " "),
    (r"\\displaystyle|\\!", ""),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"(?<![\\a-zA-Z])(sqrt|pi|infinity)(?![a-zA-Z])", lambda m: f"\\{m[1].replace('infinity', 'infty')} "),
    (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"\^\s*\(([^()]*)\)", r"^{\1}"),
    (rf"\\(frac|binom)(?![a-zA-Z])\s*{_ARGUMENT}", r"\\\1{\2}"),
    (rf"\\(frac|binom)\s*({_GROUP})\s*{_ARGUMENT}", r"\\\1\2{\3}"),
    (rf"\\sqrt(?![a-zA-Z])\s*(\[[^\]]*\])?\s*{_ARGUMENT}", lambda m: rf"\sqrt{m[1] or ''}{{{m[2]}}}"),
    (r"^([+-]?\d+(?:\.\d+)?)[eE]([+-]?\d{1,6})$", lambda m: rf"{m[1]}\times10^{{{int(m[2])}}}"),
    (r"(?<![\d.])\.(?=\d)", "0."),
    (r"(\d+)\.(\d*)\\(?:overline|bar)\s*\{?(\d+)\}?", _repeating),
    (rf"(?<![\d.])\d{{1,3}}(?:(?:{_GAP}|\{{,\}})\d{{3}})+(?!\d)", lambda m: re.sub(r"\D", "", m[0])),
    (rf"(?<![\d./])(\d{{1,9}}){_GAP}+(\d{{1,9}})\s*/\s*(\d{{1,9}})(?![\d./])", _mixed),
    (r"(?<![\w.])(\d[\dA-Z]{0,99})_\s*\{?(\d{1,2})\}?(?!\d)", _based),
    (r"(?<![\w.\\^{])(\d+)\s*\((?=[\d-])", r"\1\\cdot("),
    (
        rf"(?<=\d)\s*(?:{_COMMAND}\{{\s*)?({'|'.join(_POWERS)})(?![a-z])(?:\s*\}})?",
        lambda m: rf"\times10^{{{_POWERS[m[1]]}}}",
    ),
)
# Each measure's spellings, the first for all. Any other word behind a number (12 apples) is dropped.
MEASURES = """
mm millimeter millimetre; cm centimeter centimetre; m meter metre; km kilometer kilometre; in inch inche; ft foot feet
yd yard; mi mile; mg milligram; g gram gm; kg kilogram kilo; oz ounce; lb pound lbs; ml milliliter millilitre
l liter litre; gal gallon; ms millisecond; s second sec; min minute; h hour hr; day; week wk; month; year yr; mi/h mph
km/h kmh kph; am a.m; pm p.m; $ dollar usd; € euro eur; £ gbp; ¢ cent; deg degree; rad radian
"""
UNITS = {name: names.split()[0] for names in re.split("[;\n]", MEASURES) for name in names.split()}
_POWER = r"(?:\s*\^\s*\{?([23])\}?)?"
_TEX_UNIT = re.compile(rf"((?:(?!\\text).)*?[\w}})\]]){_GAP}*{_COMMAND}\{{([^{{}}]*)\}}{_POWER}", re.DOTALL)
_BARE_UNIT = re.compile(
    rf"((?:[^a-zA-Z]|\\[a-zA-Z]+(?=[^a-zA-Z]))*[\d}})])({_GAP}*)([a-zA-Z][a-zA-Z/. ]*){_POWER}", re.DOTALL
)
_DEGREES = re.compile(rf"(.*[\d}})])\s*(?:\^\s*\{{?\s*\\circ\s*\}}?|°){_GAP}*(?:{_COMMAND}\{{)?([CF]?)\}}?", re.DOTALL)
_MONEY = re.compile(r"(-?)\\?([$€£])\s*(-?[\d.].*)", re.DOTALL)
_PERCENT = re.compile(rf"(.+?){_GAP}*(?:{_COMMAND}\{{)?\s*(?:\\?%|percent|pct)\s*\}}?", re.DOTALL)
_NAMED = re.compile(r"([a-zA-Z](?:_\{?\w+\}?)?(?:\([a-z]\))?|\\[a-zA-Z]+)\s*=\s*([^=]*[^=\s])\s*", re.DOTALL)
_WORDS = re.compile(r"(?![xyz]+$)(?=.*[a-zA-Z]{2})[a-zA-Z][a-zA-Z\s.,'’/-]*|\(?[A-Z]\)?")  # or the letter of a choice
_TIME = re.compile(r"\d{1,2}(?::[0-5]\d)+")
_APART = re.compile(rf"\d{_GAP}+\d")  # math-verify would add them up


def read(raw: str) -> Reading:
    r"""One side, gold or answer.

    >>> read(r"\dfrac12\text{ cm}").text, read("x = 2 1/2").text, read("3 4").kind.name, read(r"\text{no}").kind.name
    ('\\frac{1}{2}', '2\\frac{1}{2}', 'OPAQUE', 'TEXT')
    """
    text = _unwrapped(raw)
    if re.fullmatch(NOTHINGS, text, re.IGNORECASE) or inside(text + "}", 0) != (0, len(text)):
        return Reading(text, Kind.NOTHING)
    if re.search(rf"\d{{{LONGEST_NUMBER}}}", text):
        return Reading(text, Kind.OPAQUE)
    for pattern, replacement in REWRITES:
        text = re.sub(pattern, replacement, text)
    named = _NAMED.fullmatch(text)
    name, text = named.groups() if named else ("", text)
    percent = _PERCENT.fullmatch(text)
    text, unit = _without_unit(_unwrapped(percent[1] if percent else text))
    text = _unwrapped(text)
    if _WORDS.fullmatch(text):
        return Reading(" ".join(text.strip("()").casefold().split()), Kind.TEXT)
    kind = Kind.TEXT if _TIME.fullmatch(text) else Kind.OPAQUE if _APART.search(text) else Kind.MATH
    return Reading(text, kind, name, unit, percent is not None)


def _unwrapped(text: str) -> str:
    text = text.strip()
    for wrapper in WRAPPERS:
        if inner := re.fullmatch(wrapper, text, re.DOTALL):
            return _unwrapped(inner[1])
    return text


def _without_unit(text: str) -> tuple[str, str]:
    """The text without a measure behind it or money before it, and that unit in one spelling."""
    if degrees := _DEGREES.fullmatch(text):
        return degrees[1], "deg" + degrees[2]
    if money := _MONEY.fullmatch(text):
        return money[1] + _without_unit(money[3])[0], money[2]
    if tex := _TEX_UNIT.fullmatch(text):
        return tex[1], _spelled(tex[2], tex[3])
    bare = _BARE_UNIT.fullmatch(text)
    if bare and all(_is_a_unit(w, bool(bare[2])) for w in re.split(r"[/\s]+", bare[3].strip())):
        return bare[1], _spelled(bare[3], bare[4])
    return text, ""


def _measure(word: str) -> str:
    """
    >>> _measure("Hours"), _measure("lbs"), _measure("apples")
    ('h', 'lb', '')
    """
    word = word.strip(".").lower()
    return UNITS.get(word) or UNITS.get(word.removesuffix("s"), "")


def _is_a_unit(word: str, apart: bool) -> bool:
    """Without braces: a measure, or behind a space any word. 12m, 2xy and `5 or 6` have none."""
    if _measure(word):
        return apart or len(word) > 1
    return apart and re.fullmatch(r"(?i)sq|cu|(?!and$|or$)(?=.*[aeiou])[a-z]{3,}", word) is not None


def _spelled(words: str, power: str | None) -> str:
    """
    >>> _spelled(" square centimeters", None), _spelled("cm", "2"), _spelled("miles per hour", None), _spelled("mph", None)
    ('cm^2', 'cm^2', 'mi/h', 'mi/h')
    """
    power = power or ("2" if re.search(r"\bsq", words) else "3" if re.search(r"\bcu", words) else None)
    unit = "/".join(filter(None, ("".join(map(_measure, part.split())) for part in re.split(r"/|\bper\b", words))))
    return f"{unit}^{power}" if unit and power else unit
