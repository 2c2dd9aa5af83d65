"""One text or two; train or validation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdpo.data.split import normalise, split_of
from hdpo.errors import BadInput


@given(st.text())
def test_the_side_of_a_text_ignores_its_spelling(text):
    assert normalise(normalise(text)) == normalise(text)
    assert split_of(text) == split_of(f"  {normalise(text)} \n")


def test_the_split_is_five_percent_and_moves_with_the_seed():
    texts = [f"What is {n}+1?" for n in range(4000)]
    held = [split_of(text) == "validation" for text in texts]
    assert 0.04 < sum(held) / 4000 < 0.06
    assert held != [split_of(text, seed=43) == "validation" for text in texts]
    held = [n for n in range(100) if split_of(f"{n}+1?") == "validation"]
    assert held == [4, 26, 39, 46, 49, 79, 88, 94]  # as ever, for texts that the earlier folding left as they are
    assert all(split_of(text, validation=1.0) == "validation" for text in texts[:50])
    with pytest.raises(BadInput, match="between 0 and 1, found 5"):
        split_of("x", validation=5)


def test_what_only_looks_alike_is_split_apart():
    pairs = [("What is 3²?", "What is 32?"), ("Is f(X) = 2?", "Is F(x) = 2?")]
    for one, other in pairs:
        assert any(split_of(one, seed, 0.5) != split_of(other, seed, 0.5) for seed in range(20))
