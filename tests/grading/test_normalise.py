"""How one side is read, before math-verify: brackets of TeX, numbers, units, and what is no mathematics."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdpo.grading.normalise import MEASURES, UNITS, Kind, read


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"\tfrac\pi2", r"\frac{\pi}{2}"),
        (r"\frac{3\sqrt2}2", r"\frac{3\sqrt{2}}{2}"),
        (r"\frac{\frac12}{\sqrt[3]2}", r"\frac{\frac{1}{2}}{\sqrt[3]{2}}"),
        (r"\fracture", r"\fracture"),
        (r"\sqrt{\frac12}", r"\sqrt{\frac{1}{2}}"),
        ("2 pi", r"2 \pi"),
        ("1.5e-10", r"1.5\times10^{-10}"),
        (r"1.2\overline{34}", r"\frac{611}{495}"),
        (r"1{,}234\,567", "1234567"),
        ("12, 345", "12, 345"),
        ("-2 3/4", r"-2\frac{3}{4}"),
        ("1A_{16}", "26"),
        ("189_8", "189_8"),  # no number of that base
        ("x_1", "x_1"),
        (r"\begin{pmatrix}1\\ 200\end{pmatrix}", r"\begin{pmatrix}1\\ 200\end{pmatrix}"),
        (r"\(\dfrac{1}{2}.\)", r"\frac{1}{2}"),
        ("18\nDone.", "18"),
        ("5 or more", "5 or more"),
    ],
)
def test_what_math_verify_gets(raw, text):
    assert read(raw).text == text


@pytest.mark.parametrize(
    ("raw", "text", "unit"),
    [
        (r"\frac{3}{4}\text{ cups}", r"\frac{3}{4}", ""),
        (r"12\ \mathrm{cm}^2", "12", "cm^2"),
        ("12 sq m", "12", "m^2"),
        ("60 km/h", "60", "km/h"),
        (r"30^{\circ}\text{C}", "30", "degC"),
        (r"-\$5", "-5", "$"),
        (r"x\text{ cm}", "x", "cm"),
        ("2ab", "2ab", ""),
        ("x = 5 lbs", "5", "lb"),
    ],
)
def test_a_unit_is_taken_apart(raw, text, unit):
    reading = read(raw)
    assert (reading.text, reading.unit) == (text, unit)


def test_a_spelling_has_one_measure():
    names = MEASURES.replace(";", " ").split()
    assert len(names) == len(set(names)) == len(UNITS)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("No solution.", Kind.TEXT),
        (r"\text{(B)}", Kind.TEXT),
        ("12:05", Kind.TEXT),
        ("1:3", Kind.MATH),
        (r"3\;4", Kind.OPAQUE),
        ("7" * 1000, Kind.OPAQUE),
        ("see the explanation", Kind.NOTHING),
        ("seesaw", Kind.TEXT),
        (r"\{1", Kind.MATH),
        ("{1", Kind.NOTHING),
        ("2x", Kind.MATH),
    ],
)
def test_how_a_reading_is_compared(raw, kind):
    assert read(raw).kind is kind


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.,{}()[]\\ abfrcsqtxn$%^_/-=\n", max_size=40))
def test_any_text_is_read(raw):
    assert isinstance(read(raw).kind, Kind)
