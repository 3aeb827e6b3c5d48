"""Steps between seconds, frames, latents and sizes undo each other, for every kind of VAE."""

import pytest

from comfyui_spacetime.models.geometry import OURS, ClipSize, Compression, best_size, frame_of, latent_at, latents_for

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
