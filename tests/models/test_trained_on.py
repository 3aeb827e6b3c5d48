"""What a model was trained on, and what it says of other sizes."""

import pytest

from comfyui_spacetime.models.checkpoints import Checkpoint, joined, known_sizes
from comfyui_spacetime.models.trained_on import TrainedOn

KNOWN = TrainedOn.parse(["96x96x33", "64x64x33", "96x96x32c", "128x96x17"])


def test_it_says_what_the_clips_were():
    assert KNOWN.text() == "trained on 64 x 64, 96 x 96 and 128 x 96 pixels, up to 33 frames"
    assert TrainedOn.parse(["96x96x33"]).text() == "trained on 96 x 96 pixels, up to 33 frames"
    many = TrainedOn.parse([f"{16 * n}x64x9" for n in range(1, 8)])
    assert many.text() == "trained on 7 sizes from 16 x 64 to 112 x 64 pixels, up to 9 frames"


@pytest.mark.parametrize("size", [(96, 96, 33), (64, 64, 1), (96, 96, 17), (112, 96, 17), (128, 96, 33)])
def test_nothing_is_said_of_what_it_knows(size):
    assert KNOWN.warning(*size) == ""


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((96, 96, 65), ["65 frames are more", "Extend Far"]),
        ((96, 48, 33), ["96 x 48 pixels are unlike its sizes"]),
        ((256, 256, 33), ["256 x 256 pixels are unlike"]),
        ((96, 160, 37), ["96 x 160 pixels are unlike", "37 frames are more"]),
    ],
)
def test_what_lies_outside_is_one_sentence(size, words):
    text = KNOWN.warning(*size)
    assert text.startswith("this model was trained on 64 x 64")
    assert "\n" not in text
    for word in words:
        assert word in text


def test_bundles_carry_it():
    vae = Checkpoint()
    assert joined(Checkpoint(meta={"trained_on": ["64x64x9"]}), vae).meta["trained_on"] == ["64x64x9"]
    assert joined(Checkpoint(), vae, trained_on=["96x96x33"]).meta["trained_on"] == ["96x96x33"]
    assert "trained_on" not in joined(Checkpoint(), vae).meta
    assert known_sizes(joined(Checkpoint(), vae, trained_on=["96x96x33"]).meta) == TrainedOn(((96, 96, 33),))
    for meta in ({}, {"trained_on": 3}, {"trained_on": ["huge"]}, {"trained_on": []}):
        assert known_sizes(meta) is None
    with pytest.raises(ValueError, match="write them as 96x96x33"):
        joined(Checkpoint(), vae, trained_on=["96 x 96"])
