"""Sound beside picture: what a task does to latents of picture happens to the sound at the same times."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.geometry import MINIMAX_H3, Frames
from comfyui_spacetime.models.streams import LAYOUTS, apart, joint, layout_of
from comfyui_spacetime.models.tasks import along_time, in_space
from comfyui_spacetime.models.tasks.canvas import Canvas, join
from comfyui_spacetime.models.tasks.track import Track

# family -> channels, which frames a latent stands for, fps; 8 frames at 24 fps are no whole latents of LTX-2's sound
FAMILIES = {
    "ltx-2": (128, 8, Frames.every(8), 25.0),
    "ltx-2 at 24": (128, 8, Frames.every(8), 24.0),
    "minimax-h3": (24, 32, MINIMAX_H3, 24.0),
}


def clip(family: str, length: int, seed: int = 0) -> Canvas:
    """A known clip in which each latent of picture and sound holds the second of its middle."""
    channels, of_sound, time, fps = FAMILIES[family]
    layout = LAYOUTS[channels, of_sound]
    track = Track(torch.zeros(0), torch.zeros(0), layout.rate / fps, time)
    count = track.at(length)
    begins = torch.tensor([time.count(latent) for latent in range(length)])
    picture = (begins / fps + seed).reshape(1, 1, -1, 1, 1).expand(1, channels, -1, 2, 2)
    heard = (torch.arange(count) / layout.rate + seed).reshape(1, 1, -1, 1, 1).expand(1, of_sound, -1, layout.height, 1)
    track = replace(track, latents=heard.clone(), change=torch.zeros(1, 1, count, layout.height, 1))
    return Canvas(picture.clone(), torch.zeros(1, 1, length, 2, 2), time=time, sound=track)


def known(change: Tensor) -> Tensor:
    return change.amax(dim=(0, 1, 3, 4)) == 0


def check_in_step(canvas: Canvas, shifts: dict[int, float], family: str) -> None:
    """Every latent that is known plays at its time: that of its clip, moved by what lies before the clip."""
    _, _, time, fps = FAMILIES[family]
    rate = LAYOUTS[FAMILIES[family][:2]].rate
    track = canvas.sound
    assert track is not None
    assert track.latents.shape[2] == track.at(canvas.length, cyclic=canvas.cyclic)
    for latents, change, begins, within in (
        (canvas.latents, canvas.change, [time.count(n) / fps for n in range(canvas.length)], 1e-4),
        (track.latents, track.change, [n / rate for n in range(track.latents.shape[2])], 0.51 / rate),
    ):
        for place in known(change).nonzero().flatten().tolist():
            value = float(latents[0, 0, place, 0, 0])
            seed = round(value // 100) * 100
            assert value - seed + shifts[seed] == pytest.approx(begins[place], abs=within)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


LENGTH = 7  # fits all


@pytest.mark.parametrize("shapes", [[(2, 3, 4)], [(2, 3, 4, 5), (2, 7, 2)]])
def test_streams_are_one_tensor_and_apart_again(shapes):
    streams = [torch.randn(shape) for shape in shapes]
    assert all(map(torch.equal, apart(joint(streams), shapes), streams))


@pytest.mark.parametrize(("picture", "sound"), LAYOUTS)
def test_sound_is_seen_as_a_picture_of_one_column(picture, sound):
    layout = LAYOUTS[picture, sound]
    shape = [1, sound, layout.height, layout.height]
    shape[layout.time] = 9
    given = torch.randn(shape)
    assert layout_of(torch.zeros(1, picture, 3, 4, 4), given) is layout
    assert layout.seen(given).shape == (1, sound, 9, layout.height, 1)
    assert torch.equal(layout.given(layout.seen(given)), given)
    with pytest.raises(ValueError, match="of no family known here"):
        layout_of(torch.zeros(1, 16, 3, 4, 4), given)


def test_extending_forward_adds_time_to_both(family):
    time, fps = FAMILIES[family][2:]
    made = along_time.extend(clip(family, LENGTH), 0, time.lasting(1.0, fps))
    check_in_step(made, {0: 0.0}, family)
    assert made.sound is not None
    assert int(known(made.sound.change).sum()) == clip(family, LENGTH).sound.latents.shape[2]
    assert bool((made.sound.latents[:, :, ~known(made.sound.change)] == 0).all())


def test_extending_backward_moves_both_alike(family):
    time, fps = FAMILIES[family][2:]
    before = time.lasting(1.0, fps)
    made = along_time.extend(clip(family, LENGTH), before, before)
    first = 1 if time.head else 0
    shift = time.count(before) / fps - time.count(first) / fps
    check_in_step(made, {0: shift}, family)


def test_a_gap_leads_from_one_to_the_other(family):
    time, fps = FAMILIES[family][2:]
    gap = time.gap_after(LENGTH, 1.0, fps)
    made = along_time.connect_gap(clip(family, LENGTH), clip(family, LENGTH, seed=100), gap)
    assert time.fits(made.length)
    first = 1 if time.head else 0
    shift = (time.count(LENGTH + gap) - time.count(first)) / fps
    check_in_step(made, {0: 0.0, 100: shift}, family)
    assert made.sound is not None
    assert bool((~known(made.sound.change)).any())


def test_a_blend_mixes_both_and_lets_both_change(family):
    time, fps = FAMILIES[family][2:]
    overlap = time.overlap_of(LENGTH, 0.5, fps)
    made = along_time.connect_blend(clip(family, LENGTH), clip(family, LENGTH, seed=100), overlap, 0.5)
    assert time.fits(made.length)
    track = made.sound
    assert track is not None
    a, b = track.at(LENGTH - overlap), track.at(LENGTH)
    assert bool((track.change[:, :, a + 1 : b - 1] > 0).all())
    assert float(track.change.max()) == pytest.approx(0.5, abs=0.02)
    inside = track.latents[0, 0, a:b, 0, 0]
    assert bool((inside.diff() > 0).all()), "from the first clip's seconds to the second's"


def test_a_loop_closes_both(family):
    time, fps = FAMILIES[family][2:]
    gap = time.gap_after(LENGTH, 0.5, fps)
    made = along_time.loop_clip(clip(family, LENGTH), gap)
    assert made.cyclic
    assert made.sound is not None
    rate = LAYOUTS[FAMILIES[family][:2]].rate
    assert made.sound.latents.shape[2] == round(time.count(made.length, cyclic=True) / fps * rate)


def test_what_is_changed_in_the_picture_leaves_the_sound_unless_asked(family):
    given = clip(family, LENGTH)
    made = in_space.restyle(given, 0.5, None, 2, 4)
    assert made.sound is given.sound
    freed = made.sound_freed(0.5, 2, 4).sound
    assert freed is not None
    inside = slice(freed.at(2), freed.at(4))
    assert bool((freed.change[:, :, inside] == 0.5).all())
    assert float(freed.change.sum()) == float(freed.change[:, :, inside].sum())
    region = torch.zeros(1, 1, LENGTH, 2, 2)
    region[:, :, 3, 0, 0] = 1
    filled = given.sound_freed_with(region).sound
    assert filled is not None
    assert (~known(filled.change)).nonzero().flatten().tolist() == list(range(filled.at(3), filled.at(4)))


def test_parts_joined_again_are_the_clip(family):
    given = clip(family, LENGTH)
    again = join([given.part(0, 3), given.part(3, 5), given.part(5, None)])
    assert torch.equal(again.latents, given.latents)
    assert again.sound is not None
    assert given.sound is not None
    assert again.sound.latents.shape == given.sound.latents.shape
    check_in_step(again, {0: 0.0}, family)


def test_one_clip_with_sound_and_one_without_are_refused(family):
    silent = replace(clip(family, LENGTH), sound=None)
    with pytest.raises(ValueError, match="one of the clips carries sound and another none"):
        along_time.connect_gap(clip(family, LENGTH), silent, 3)
