"""A video that goes on until it is stopped."""

from __future__ import annotations

import time as clock
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from torch import Tensor

from ...models.geometry import Frames
from ...models.rolling import Rolling
from ...models.tasks.canvas import Canvas, check_open
from ...models.tasks.prompts import Key, check_endless, parse_keys
from ..host import messages
from ..host.latent import canvas_of, known_clip, picture_alone
from ..host.stopping import stoppable
from ..inputs import fps_input
from ..schema import Node, schema
from .inputs import CATEGORY, LATEST, per_latent_input, seconds_input

if TYPE_CHECKING:
    from ...models.rolling import Window


class StreamVideo(Node):
    """A model, a decoder and prompts with times -> a video file that grows while it is watched."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeStreamVideo",
            display_name="Stream Video",
            category=CATEGORY,
            description=(
                "Makes a video without end, shows its frames as they come and writes them into a file. A window rolls "
                "along: what is clean leaves at its front while noise enters at its back, so each frame takes the same "
                "time and memory. Prompts may change on the way. Cancel stops it and keeps what was made. For models "
                "with a noise level per frame: this pack's, LTX-Video, Wan 2.2 5B."
            ),
            search_aliases=[
                "infinite video",
                "endless video",
                "live video",
                "real time video",
                "rolling diffusion",
                "diffusion forcing",
                "streaming generation",
            ],
            inputs=inputs(),
            outputs=[
                io.Video.Output(display_name="video", tooltip="The file, for Save Video, of what is new."),
                io.Latent.Output(
                    display_name="latent", tooltip="The last latents; another Stream Video goes on from them exactly."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        guider: Any,
        sampler: Any,
        sigmas: Tensor,
        noise: Any,
        latent: dict[str, Any],
        vae: Any,
        seconds: float,
        prompts: str,
        fade: float,
        window: float,
        context: float,
        fps: float,
        frames_per_latent: int,
        clip: Any = None,
    ) -> io.NodeOutput:
        """Roll, decode, show and write, until it is enough or it is stopped."""
        from ..host.rolling import Script, check_streamable, held_window, latents_of, solver_of
        from ..host.time import clip_fps, clip_time

        check_streamable(guider)
        time = clip_time(frames_per_latent, latent, vae=vae, model=guider.model_patcher)
        fps = clip_fps(fps, latent)
        given = source_of(latent, time)
        keys = script_of(prompts, clip)
        length, known = time.lasting(window, fps) + 1, time.lasting(context, fps)
        rolling = Rolling.within(length, known, sigmas, solver_of(sampler), int(getattr(noise, "seed", 0)))
        made_before, held = given.latents.shape[2], held_window(latent, rolling)
        script = Script(keys, clip, fade, fps, time, begin=made_before if held is None else held.first)
        rolled = latents_of(guider, noise, rolling, given.latents, script, held)
        wanted = None if seconds == 0 else time.lasting(seconds, fps) + (made_before == 0)
        run = Run(cls, vae, given.latents if made_before else None, fps, rolling.context)
        with stoppable() as stopped:
            expected = 0 if wanted is None else time.count(wanted)
            video = run.written(until(stopped, islice(rolled, wanted)), expected)
        return io.NodeOutput(video, run.latent(given))


def inputs() -> list[Any]:
    """What Stream Video is given."""
    return [
        io.Guider.Input("guider", tooltip="Model and prompt."),
        io.Sampler.Input("sampler", tooltip="Sampler with euler or euler_sde, or core's euler."),
        io.Sigmas.Input(
            "sigmas",
            tooltip="The schedule that each latent goes down, ending in 0. Few steps make a stream fast.",
        ),
        io.Noise.Input("noise", tooltip="Its seed gives each latent noise of its own."),
        io.Latent.Input("latent", tooltip="Empty: its size is used. A clip: the stream goes on from its end."),
        io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
        io.Float.Input(
            "seconds",
            default=10.0,
            min=0.0,
            max=LATEST,
            step=1.0,
            round=0.001,
            tooltip="How much to make. 0: until it is stopped with Cancel, which keeps what was made.",
        ),
        io.String.Input(
            "prompts",
            default="",
            multiline=True,
            tooltip=(
                "A line per prompt: `0: a red ball` holds until the next line, such as `4.5: a blue ball`, in "
                "seconds of the stream. Needs `clip`. Empty: the guider's own."
            ),
        ),
        seconds_input("fade", 0.0, "How long one prompt takes to turn into the next. 0: at once."),
        seconds_input("window", 2.75, "Length that the model takes at a time, as it was trained.", low=0.25),
        seconds_input("context", 1.0, "How much of a window is known from before."),
        fps_input(),
        per_latent_input(),
        io.Clip.Input("clip", optional=True, tooltip="The model's text encoder."),
    ]


@dataclass
class Run:
    """A stream on its way into a file.

    lead     latents of the clip before it, if any
    context  latents that the next window would see
    """

    node: type[StreamVideo]
    vae: Any
    lead: Tensor | None
    fps: float
    context: int
    last: deque[Tensor] = field(default_factory=deque)
    window: Window | None = None
    frames: int = 0

    def written(self, rolled: Iterator[tuple[Tensor, Window]], expected: int) -> Any:
        """The video of all latents. A stop keeps what there is, if there is anything."""
        from ..host.vae.frames import VideoWriter
        from ..host.vae.pieces import decode_as_they_come

        begin, bar = clock.perf_counter(), messages.progress_bar(expected or 1)
        with VideoWriter(self.fps) as writer:
            try:
                for images in decode_as_they_come(self.vae, self._noted(rolled), self.lead):
                    writer.write(images)
                    for image in images:
                        self.frames += 1
                        messages.show_frame(bar, image, self.frames, max(expected, self.frames + (not expected)))
            except messages.Stopped:
                if not self.frames:
                    raise
            pace = (clock.perf_counter() - begin) / max(1, self.frames)
            said = f"{self.frames / self.fps:.1f} s, {self.frames} frames, {pace:.3g} s each"
            messages.show_text(self.node, said)
        return writer.video()

    def _noted(self, rolled: Iterator[tuple[Tensor, Window]]) -> Iterator[Tensor]:
        for latent, self.window in rolled:
            self.last.append(latent)
            while len(self.last) > max(1, self.context):
                self.last.popleft()
            yield latent

    def latent(self, given: Canvas) -> dict[str, Any]:
        """The last latents as a LATENT, from which the stream can go on."""
        from ..host.rolling import carrying

        return carrying(self.last, self.window, given.entries)


def until(enough: Callable[[], bool], rolled: Iterator[tuple[Tensor, Window]]) -> Iterator[tuple[Tensor, Window]]:
    """One latent at least, and more until it is enough."""
    for one in rolled:
        yield one
        if enough():
            return


def source_of(latent: dict[str, Any], time: Frames) -> Canvas:
    """The clip that a stream goes on from, of no latents where there is none. ValueError where it cannot."""
    picture_alone(latent, "Stream Video")
    given = canvas_of(latent)
    if len(given.latents) != 1:
        raise ValueError(f"a stream is one video, and this latent holds {len(given.latents)}: set the batch to 1")
    if time.step > 1:
        raise ValueError(
            f"latents of this model stand for {', '.join(map(str, time.rest))} frames in turn, so they cannot be "
            "streamed one by one: use Extend Far"
        )
    check_open(given, "stream from")
    if bool((given.change == 1).all()) and not bool(given.latents.any()):
        return given.part(0, 0)
    return known_clip(latent, "stream from")


def script_of(prompts: str, clip: Any) -> list[Key]:
    """The prompts of a stream and their times; none where nothing is written."""
    if not prompts.strip():
        return []
    if clip is None:
        raise ValueError("prompts with times need `clip`: connect the model's text encoder")
    keys = parse_keys(prompts, "a blue ball")
    check_endless(keys)
    return keys


NODES: list[type[io.ComfyNode]] = [StreamVideo]
