"""Names of images: their natural order, and how messages show them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minidiff.datasets.image_files.listing import natural
from minidiff.datasets.wording import in_words, printable

RNG = np.random.default_rng(0)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=2, unique=True), st.text("a0. ", max_size=3))
def test_numbers_in_names_are_in_the_order_of_their_values(numbers, text):
    low, high = sorted(numbers)
    assert natural((f"a{low}{text}",)) < natural((f"a{high}{text}",)) or text[:1].isdigit()
    assert natural((f"a{'0' * 5000}{low}",)) < natural((f"a{high}",))


@given(st.lists(st.text(min_size=1), unique=True))
def test_the_natural_order_is_one_order_of_all_names(names):
    backwards = names[::-1]
    names.sort(key=lambda name: natural((name,)))
    assert names == sorted(backwards, key=lambda name: natural((name,)))


@given(st.text(st.characters()), st.integers(20, 200))
def test_printable_text_is_one_line_of_bounded_length(text, most):
    shown = printable(text, most)
    assert shown.isprintable() and len(shown) <= most
    if text.isprintable() and len(text) <= most:
        assert shown == text


def test_only_the_first_names_are_given():
    assert in_words({"hidden": list("abcdefg"), "damaged": []}) == "7 hidden (a, b, c, d, e, …)"
