"""Content words, and the share of them that is known."""

from __future__ import annotations

from services.common.grounding import content_words, grounding


def test_small_words_and_letters_say_nothing() -> None:
    assert content_words("They both WANT to use the Tripod, with a 4K camera!") == {"want", "tripod", "camera"}


def test_the_share_is_of_distinct_words() -> None:
    assert grounding("a tripod for the tripod and the moon", {"tripod", "camera"}) == 0.5
    assert grounding("moon", set()) == 0


def test_a_text_of_small_words_has_none() -> None:
    assert grounding("they get it", {"tripod"}) is None
