"""Video metrics tell good from bad: a seam from none, flicker from motion, drift from none, still from moving."""

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.metrics.flow_field import motion
from comfyui_spacetime.models.metrics.plot import plot
from comfyui_spacetime.models.metrics.report import Report
from comfyui_spacetime.models.metrics.seam import measure_joins, measure_loop, seam_ratio
from comfyui_spacetime.models.metrics.video import flicker, measure_video


def textured(height: int = 64, width: int = 64) -> Tensor:
    """A picture with structure at several scales, (H, W, 3) in 0..1, that goes on smoothly past its borders."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    turn = 2 * torch.pi
    waves = [torch.sin(turn * (a * x + b * y) + a) for a, b in ((1, 2), (3, -1), (5, 4), (2, 7), (8, 3))]
    return (0.5 + 0.1 * torch.stack([waves[0] + waves[i] + waves[i + 1] + waves[4] for i in (1, 2, 0)], dim=-1)).clamp(
        0, 1
    )


def moving(num_frames: int, step: int = 2) -> list[Tensor]:
    """The picture going round: after 64 / step frames it is back."""
    picture = textured()
    return [picture.roll(step * index, dims=1) for index in range(num_frames)]


def test_a_closed_loop_has_no_seam_and_an_open_one_has():
    assert measure_loop(moving(32)).value("seam") == pytest.approx(1, abs=0.01)
    assert measure_loop(moving(20)).value("seam") > 1.5


def test_a_cut_is_found_where_it_is():
    frames = moving(10, step=1) + [1 - frame for frame in moving(10, step=1)]
    report = measure_joins(frames, [10])
    assert report.value("seam") > 2
    assert measure_joins(frames, [5]).value("seam") == pytest.approx(1, abs=0.01)
    assert "before frame 10" in report.text()


def test_a_frozen_video_has_no_seam():
    report = measure_loop([textured()] * 5)
    assert report.value("seam") == 1
    assert "nothing moves" in report.text()
    assert seam_ratio(0.1, [0.0, 0.0]) == float("inf")


def test_flicker_is_not_motion_nor_fading():
    dark, light = torch.full((8, 8, 3), 0.2), torch.full((8, 8, 3), 0.5)
    assert flicker(dark, light, dark) == pytest.approx(0.3)
    assert flicker(dark, light, light + 0.2) == 0
    frames = moving(8, step=1)
    trembling = [frame + 0.1 * (-1) ** index for index, frame in enumerate(frames)]
    still, shaken = (measure_video(video, 8, with_motion=False).value("flicker") for video in (frames, trembling))
    assert shaken > 5 * still


def test_motion_is_measured_in_parts_of_the_picture():
    one, other = moving(2, step=3)
    found = motion(one, other)
    assert found.speed == pytest.approx(3 / 64, rel=0.15)
    assert found.warp_error < 0.01
    assert found.visible > 0.8
    assert motion(one, one).speed < 1e-3


def test_warp_error_sees_what_flow_cannot_explain():
    generator = torch.Generator().manual_seed(0)
    frames = moving(5, step=1)
    noisy = [(frame + 0.1 * torch.randn(frame.shape, generator=generator)).clamp(0, 1) for frame in frames]
    clean, dirty = (measure_video(video, 8).value("warp error") for video in (frames, noisy))
    assert dirty > 4 * clean


def test_drift_of_colour_and_sharpness():
    steady = measure_video(moving(32, step=2), 8, with_motion=False)
    assert steady.value("colour drift") < 0.5
    assert abs(steady.value("sharpness drift")) < 1
    redder = [frame * 0.5 + torch.tensor([0.01 * i, 0, 0]) for i, frame in enumerate(moving(32))]
    assert measure_video(redder, 8, with_motion=False).value("colour drift") == pytest.approx(24, abs=1)
    flatter = [0.5 + (frame - 0.5) * (1 - i / 40) for i, frame in enumerate(moving(32))]
    report = measure_video(flatter, 8, with_motion=False)
    assert report.value("contrast drift") < -50
    assert report.value("sharpness drift") < -50


def test_one_frame_can_be_measured_and_none_cannot():
    assert measure_video([textured()], 8).value("colour drift") == 0
    with pytest.raises(ValueError, match="no frames"):
        measure_video([], 8)


def test_a_report_can_be_drawn_and_stored():
    report = measure_video(moving(6), 8)
    picture = plot(report)
    assert picture.shape[0] == 1
    assert picture.shape[2:] == (640, 3)
    assert 0.1 < float(picture.max()) <= 1
    assert plot(Report("empty", ())).shape[0] == 1
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure_loop([]), "a loop of 0 frames"),
        (lambda: measure_loop(moving(2)), "a loop of 2 frames"),
        (lambda: measure_joins(moving(4), []), "no join"),
        (lambda: measure_joins(moving(4), [4]), "no join before frame 4"),
        (lambda: measure_joins(moving(2), [1]), "nothing besides"),
    ],
)
def test_bad_input_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_seam_across_the_picture_is_told_from_what_lies_beside_it():
    from comfyui_spacetime.models.metrics.seam import picture_seams

    frames = torch.rand(3, 64, 96, 3, generator=torch.manual_seed(0))
    plain = picture_seams(frames, [32, 48], [24])
    assert all(0.8 < ratio < 1.25 for ratio in plain)
    frames[:, :, 32:] += 2.0
    assert picture_seams(frames, [32], [])[0] > 4
    assert picture_seams(torch.zeros(2, 64, 64, 3), [32], [32]) == [1.0, 1.0]
    for columns, rows in (([8], []), ([88], []), ([], [60])):
        with pytest.raises(ValueError, match="has no lines 8 beside it"):
            picture_seams(frames, columns, rows)
