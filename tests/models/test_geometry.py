"""Steps between seconds, frames, latents and sizes undo each other, for every kind of VAE."""

import pytest

from comfyui_spacetime.models.geometry import (
    MINIMAX_H3,
    OURS,
    ClipSize,
    Compression,
    Frames,
    best_size,
    frame_of,
    frames_of,
    latent_at,
    latents_for,
)

KINDS = [OURS, Compression(8, 32), Compression(4, 16), Compression(1, 8)]  # ours, LTX-Video, Wan 2.2, images


@pytest.mark.parametrize("vae", KINDS)
@pytest.mark.parametrize("cyclic", [False, True])
def test_latents_and_frames_undo_each_other(vae, cyclic):
    for count in range(1, 20):
        frames = vae.frames(count, cyclic=cyclic)
        assert vae.fits(frames, cyclic=cyclic)
        assert vae.latents(frames) == count


@pytest.mark.parametrize("vae", KINDS)
def test_fitting_is_the_most_that_fits(vae):
    for frames in range(1, 40):
        kept = vae.fitting(frames)
        assert vae.fits(kept)
        assert frames - vae.time < kept <= frames
    assert vae.fitting(0) == 0


@pytest.mark.parametrize("vae", KINDS)
@pytest.mark.parametrize("seconds", [0, 0.3, 2.75, 10])
def test_the_nearest_length_is_at_most_half_a_latent_away(vae, seconds):
    frames = vae.nearest(seconds, 12)
    assert vae.fits(frames)
    assert abs(frames - max(1, seconds * 12)) <= vae.time / 2


@pytest.mark.parametrize("vae", KINDS)
def test_sides_are_whole_patches(vae):
    assert vae.side % vae.space == 0
    for pixels in range(1, 200, 7):
        assert vae.nearest_side(pixels) % vae.side == 0
        assert vae.fitting_side(pixels) % vae.side == 0
        assert vae.fitting_side(pixels) <= pixels


@pytest.mark.parametrize("vae", KINDS)
@pytest.mark.parametrize("cyclic", [False, True])
def test_shapes_and_sizes_undo_each_other(vae, cyclic):
    frames, side = vae.frames(5, cyclic=cyclic), vae.side
    shape = vae.latent_shape(frames, 2 * side, 3 * side, cyclic=cyclic)
    assert vae.pixel_size((1, 16, *shape), cyclic=cyclic) == (frames, 2 * side, 3 * side)
    with pytest.raises(ValueError, match="multiples of"):
        vae.latent_shape(frames, side + 1, side, cyclic=cyclic)


def test_a_frame_lies_in_its_latent():
    for latent in range(6):
        assert latent_at(frame_of(latent, 4) / 12, 12, 4) == latent
    assert latents_for(0, 12, 4) == 0
    assert latents_for(0.01, 12, 4) == 1


@pytest.mark.parametrize("text", ["96x96x33", "96x64x1", "96x96x32c"])
def test_sizes_are_read_as_they_are_written(text):
    assert str(ClipSize.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "96x96", "96x96x32", "90x96x33", "96x96x33c", "0x96x33", "96x96x33cc", "1e2x96x33"]
)
def test_other_sizes_are_named(text):
    with pytest.raises(ValueError, match=text or "not like"):
        ClipSize.parse(text)


def test_the_best_size_is_the_longest_of_the_nearest():
    sizes = [ClipSize.parse(text) for text in ("64x64x17", "64x64x33", "96x48x33")]
    assert str(best_size(sizes, 300, 300)) == "64x64x33"
    assert str(best_size(sizes, 200, 100)) == "96x48x33"


RHYTHMS = {"causal 4": Frames.every(4), "causal 8": Frames.every(8), "images": Frames.every(1), "H3": MINIMAX_H3}


@pytest.mark.parametrize("rhythm", RHYTHMS.values(), ids=RHYTHMS)
@pytest.mark.parametrize("cyclic", [False, True])
def test_every_frame_lies_in_one_latent(rhythm, cyclic):
    for latent in range(23):
        begin, end = (rhythm.count(latent + more, cyclic=cyclic) for more in (0, 1))
        assert end > begin
        assert all(rhythm.holding(frame, cyclic=cyclic) == latent for frame in range(begin, end))


@pytest.mark.parametrize("rhythm", RHYTHMS.values(), ids=RHYTHMS)
def test_a_video_plus_whole_rounds_is_a_video(rhythm):
    for seconds in (0.0, 0.01, 0.7, 2.0, 10.0):
        more, length = rhythm.lasting(seconds, 24.0), rhythm.nearest(seconds, 24.0)
        assert rhythm.fits(length)
        assert rhythm.fits(length + more)
        assert (more == 0) == (seconds == 0)
        assert abs(rhythm.count(length) - seconds * 24) <= max(sum(rhythm.rest) / 2, rhythm.count(rhythm.least))


def test_the_rhythm_of_minimax_h3_is_that_of_its_vae():
    """Lengths 5 + 17 k, 2 + 5 k latents: as core's nodes count them."""
    vae = Compression(4, 16, MINIMAX_H3)
    assert [frames for frames in range(1, 60) if vae.fits(frames)] == [5, 22, 39, 56]
    assert [vae.latents(frames) for frames in (5, 22, 39, 124)] == [2, 7, 12, 37]
    assert [vae.fitting(frames) for frames in (4, 5, 21, 22, 130)] == [0, 5, 5, 22, 124]
    assert vae.nearest(5.0, 24) == 124
    with pytest.raises(ValueError, match=r"a video has 5 \+ 17k frames"):
        vae.latent_shape(23, 64, 64)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda n: max(0, n * 4 - 3), Frames.every(4)),
        (lambda n: max(0, n * 8 - 7), Frames.every(8)),
        (lambda n: max(0, n * 6 - 5), Frames.every(6)),
        (lambda n: max(1, (n - 2) // 5 * 17 + 5), MINIMAX_H3),
    ],
)
def test_a_vae_is_asked_for_its_time(function, expected):
    assert frames_of(function) == expected


def test_a_rhythm_that_nobody_knows_is_said():
    with pytest.raises(ValueError, match="a rhythm that is not known here"):
        frames_of(lambda n: n * n)
