"""The text of a token: its form, its checksum, and what is stored of it."""

import re
import string
from hashlib import sha256

import pytest

from service.auth.token_text import digest_of, new_token

FORM = re.compile(r"itm_[0-9A-Za-z]{33}")


def test_tokens_have_one_form_and_differ() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(map(FORM.fullmatch, tokens))
    # Random bits use every digit at every place of the secret but its first one, which 160 bits do not fill.
    assert all(len({token[place] for token in tokens}) > 50 for place in range(5, 31))


def test_what_is_stored_of_a_token_is_its_beginning_and_a_digest() -> None:
    token = new_token()
    stored = digest_of(token)
    assert stored is not None
    assert stored.prefix == token[:12]
    assert stored.digest == sha256(token.encode()).hexdigest()
    assert token[12:] not in str(stored)


def test_every_token_with_one_wrong_character_is_known_to_be_none() -> None:
    token = new_token()
    for place in range(4, len(token)):
        for character in string.ascii_letters + string.digits:
            mistyped = token[:place] + character + token[place + 1 :]
            assert (digest_of(mistyped) is None) == (mistyped != token)


def test_a_token_with_two_characters_swapped_is_known_to_be_none() -> None:
    token = new_token()
    for place in range(4, len(token) - 1):
        swapped = token[:place] + token[place + 1] + token[place] + token[place + 2 :]
        assert (digest_of(swapped) is None) == (swapped != token)


@pytest.mark.parametrize("text", ["", "itm_", "itm_" + 33 * "0", "itm_" + 33 * "é", 37 * "0"])
def test_a_text_of_another_form_is_no_token(text: str) -> None:
    assert digest_of(text) is None


@pytest.mark.parametrize("more", ["\n", " ", "0"])
def test_a_token_with_more_behind_it_is_none(more: str) -> None:
    assert digest_of(new_token() + more) is None
    assert digest_of(more + new_token()) is None
