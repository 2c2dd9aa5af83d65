"""One text or two; train or validation."""

from hypothesis import given
from hypothesis import strategies as st

from hdpo.data.split import normalise, place_of


@given(st.text())
def test_the_side_of_a_text_ignores_its_spelling(text):
    assert normalise(normalise(text)) == normalise(text)
    assert place_of(text, 42) == place_of(f"  {normalise(text)} \n", 42)


def test_the_split_is_five_percent_and_moves_with_the_seed():
    texts = [f"What is {n}+1?" for n in range(4000)]
    held = [place_of(text, 42) < 0.05 for text in texts]
    assert 0.04 < sum(held) / 4000 < 0.06
    assert held != [place_of(text, 43) < 0.05 for text in texts]
    held = [n for n in range(100) if place_of(f"{n}+1?", 42) < 0.05]
    assert held == [4, 26, 39, 46, 49, 79, 88, 94]  # as ever, for texts that the earlier folding left as they are


def test_what_only_looks_alike_is_split_apart():
    pairs = [("What is 3²?", "What is 32?"), ("Is f(X) = 2?", "Is F(x) = 2?")]
    for one, other in pairs:
        assert all(place_of(one, seed) != place_of(other, seed) for seed in range(20))
