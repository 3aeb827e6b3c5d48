"""Contact sheets: every bucket is shown, with its count and captions, inside its bounds."""

import numpy as np
import pytest

from comfyui_spacetime.models.training.run.contact import WIDTH, Bucket, Shown, contact_sheet, share_out

RED = np.array([250, 10, 10], np.uint8)


def clip(height: int, width: int, frames: int, caption: str = "a red square") -> Shown:
    return Shown(np.broadcast_to(RED, (frames, height, width, 3)).copy(), caption)


@pytest.mark.parametrize(
    ("counts", "places", "expected"),
    [
        ([100, 100], 5, [3, 2]),
        ([1, 100], 6, [1, 5]),
        ([2, 2], 12, [2, 2]),
        ([5, 5, 5], 2, [1, 1, 0]),
        ([], 4, []),
    ],
)
def test_every_bucket_is_shown_before_one_is_shown_twice(counts, places, expected):
    assert share_out(counts, places) == expected


def red(sheet) -> int:
    return int((np.abs(np.asarray(sheet).astype(int) - RED).max(axis=2) < 20).sum())


def test_clips_of_all_shapes_lie_inside_the_sheet():
    buckets = [
        Bucket("64x64x17", 40, [clip(64, 64, 17)] * 4),
        Bucket("16x512x1", 1, [clip(512, 16, 1)]),
        Bucket("512x16x9", 3, [clip(16, 512, 9)] * 3),
    ]
    sheet = contact_sheet(buckets)
    assert sheet.width == WIDTH
    single = [red(contact_sheet([bucket])) for bucket in buckets]
    assert all(single)
    assert red(sheet) == sum(single)


def test_long_captions_end_and_notes_are_limited():
    endless = "word " * 200 + "x" * 500
    sheet = contact_sheet([Bucket("a", 1, [clip(64, 64, 1, endless)])])
    assert sheet.size == contact_sheet([Bucket("a", 1, [clip(64, 64, 1, "one two three " * 6)])]).size
    heights = [
        contact_sheet([Bucket("a", 1, [clip(64, 64, 1)])], ["note"] * count).height for count in (0, 2, 8, 9, 500)
    ]
    assert heights[0] < heights[1] < heights[2] == heights[3] == heights[4]


def test_words_without_letters_are_drawn_too():
    contact_sheet([Bucket("a", 2, [clip(64, 64, 1, ""), clip(64, 64, 1, "一只白色的兔子")])])
