"""Paths are stored in two arrays, so that worker processes share them."""

import pickle

import pytest

from pytorch_intro.data.ingest.packed import PackedTexts

TEXTS = ["cat/1.png", "", "dög/ä.png", "cat/\udcff.png", "cat/1.png", "日本/1.png"]  # one is not valid UTF-8


@pytest.mark.parametrize("texts", [[], [""], TEXTS], ids=["none", "an empty one", "many"])
def test_packed_texts_are_a_sequence_of_the_same_texts(texts: list[str]) -> None:
    """Also in another process."""
    for packed in (PackedTexts(texts), pickle.loads(pickle.dumps(PackedTexts(texts)))):
        assert list(packed) == texts
        assert [packed[index] for index in range(len(packed))] == texts
        assert [packed[index - len(texts)] for index in range(len(texts))] == texts
        assert "nowhere" not in packed
        with pytest.raises(IndexError):
            packed[len(texts)]


def test_packed_texts_take_little_more_than_their_characters() -> None:
    texts = [f"class_{number % 10}/image_{number:08}.png" for number in range(10_000)]
    assert len(pickle.dumps(PackedTexts(texts))) < sum(map(len, texts)) + 9 * len(texts)
