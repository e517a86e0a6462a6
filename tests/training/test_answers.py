"""Options are read from whatever a model says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.choices import LETTERS
from training.answers import named

_OPTIONS = (
    "because they both are capable of making him look good.",
    "because the person wants to learn how to make a circuit.",
    "because the person wants his/her speakers to be louder.",
    "because they both are used for a wedding.",
)
_FRAMES = (
    "{}", " {}.", "({})", "{})", "{}:", "**{}**", "[{}]", "{}\nbecause of it", "{}. because they are",
    "The answer is {}.", "The answer is ({}).", "Answer: {}", "answer is option {}", "I choose {}, since both are.",
    "Option {} it is", "The most likely intention is ({}).", "It is {}) of these.", "My choice: **{}**",
)  # fmt: skip


@given(st.sampled_from(_FRAMES), st.integers(0, 3), st.booleans())
def test_a_letter_is_read_in_every_dress(frame: str, place: int, lower: bool) -> None:
    letter = LETTERS[place].lower() if lower else LETTERS[place]
    assert named(frame.format(letter), _OPTIONS) == place


@given(st.integers(0, 3), st.sampled_from(("{}", "I think {}", "Surely {} That is all.", "{}!")))
def test_an_options_own_words_name_it(place: int, frame: str) -> None:
    assert named(frame.format(_OPTIONS[place].upper()), _OPTIONS) == place


@pytest.mark.parametrize(
    "said",
    ["", "?", "A customer buys both of them.", "A or B", "E", "(A) or (B)", "I do not know", "a nice pair", "because",
     "The answer is not given", _OPTIONS[0] + _OPTIONS[1]],
)  # fmt: skip
def test_what_names_none_or_several_is_no_answer(said: str) -> None:
    assert named(said, _OPTIONS) is None


def test_of_options_that_hold_each_other_the_longer_is_meant() -> None:
    assert named("because of the birds and bees", ["because of the birds", "because of the birds and bees"]) == 1
    assert named("because of the birds", ["because of the birds", "because of the birds and bees"]) == 0


def test_what_is_said_first_counts() -> None:
    assert named("B because they are used, not (A)", _OPTIONS) == 1
    assert named("D. The answer is A.", _OPTIONS) == 3


@given(st.text(max_size=60), st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_words_name_an_option_or_none(said: str, options: list[str]) -> None:
    place = named(said, options)
    assert place is None or 0 <= place < len(options)
