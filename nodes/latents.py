"""Videos to latents and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io

from ..models.geometry import FPS, Frames
from ..models.tasks.canvas import Canvas
from . import sockets
from .host import messages
from .host.latent import content, empty, made
from .host.sounding import nested_pair
from .inputs import fps_input, own_fps_input
from .schema import Node, schema

CATEGORY = "Spacetime/latents"


class EmptyVideo(Node):
    """Size and length -> zeros to generate on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeEmptyVideo",
            display_name="Empty Video",
            category=CATEGORY,
            description=(
                "An empty video latent of a size in pixels and a length in seconds. The length becomes the nearest "
                "1 + 4k frames and the sides the nearest multiples of 16; the node shows what it made. "
                "0 seconds is a single image."
            ),
            search_aliases=["empty latent video", "blank video", "video size", "new video", "empty image latent"],
            inputs=[
                io.Int.Input("width", default=96, min=16, max=4096, step=16, tooltip="Width in pixels."),
                io.Int.Input("height", default=96, min=16, max=4096, step=16, tooltip="Height in pixels."),
                io.Float.Input(
                    "seconds",
                    default=2.75,
                    min=0.0,
                    max=600.0,
                    step=0.25,
                    round=0.001,
                    tooltip="Length. The embedded model was trained on up to 2.75 seconds (33 frames at 12 fps).",
                ),
                own_fps_input("Frames per second. The embedded model makes 12; the latent carries it on."),
                io.Int.Input("batch", default=1, min=1, max=64, tooltip="How many videos to make at once."),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip=(
                        "The latent then has the channels that this model reads, and the node says when size or length "
                        "are unlike those of its training."
                    ),
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "The VAE that will decode it: length and size are fitted to what it says of its latents. "
                        "Without it 4 x 8 x 8 pixels are one, as for Wan 2.1, or what the model tells."
                    ),
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="Zeros, (batch, channels, T, height/8, width/8)."),
                io.Float.Output(display_name="fps", tooltip="The same fps, to pass on."),
                io.Int.Output(display_name="num_frames", tooltip="The number of pixel frames, 1 + 4k."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, width: int, height: int, seconds: float, fps: float, batch: int, model: Any = None, vae: Any = None
    ) -> io.NodeOutput:
        """Make the zeros."""
        from .host.latent import latent_of
        from .host.sounding import picture_channels, with_silence
        from .host.time import entries_of_time
        from .host.vae.others import latents_of

        channels, compression = latents_of(model, vae)
        num_frames = compression.nearest(seconds, fps)
        w, h = compression.nearest_side(width), compression.nearest_side(height)
        latents = empty(batch, channels, *compression.latent_shape(num_frames, h, w))
        text = f"{num_frames} frames of {w} x {h}, {num_frames / fps:.4g} s"
        messages.show_text(cls, "\n".join([text, *expectations(model, w, h, num_frames)]))
        entries = entries_of_time(compression.grid, fps)
        if model is None or picture_channels(model) is None:
            return io.NodeOutput(made(latents, entries=entries), fps, num_frames)
        canvas = Canvas(latents, torch.ones_like(latents[:, :1]), entries=entries, time=compression.grid)
        return io.NodeOutput(latent_of(with_silence(canvas, fps)), fps, num_frames)


def expectations(model: Any, width: int, height: int, num_frames: int) -> list[str]:
    """What a MODEL of ours says about a size that it was not trained on, if anything."""
    from .host.checkpoint import trained_on

    known = None if model is None else trained_on(model)
    return [text for text in (known.warning(width, height, num_frames) if known else "",) if text]


class VAEEncode(Node):
    """IMAGE or VIDEO -> LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeVAEEncode",
            display_name="VAE Encode Video",
            category=CATEGORY,
            description=(
                "Encodes images or a video into latents. A video file is read as a stream, so a long one needs no more "
                "memory than a short one. The end is trimmed to 1 + 4k frames and the borders to multiples of 16, or "
                "to what another model's VAE takes, and the node says so."
            ),
            search_aliases=["vae encode", "video to latent", "image to latent", "encode video", "streaming encode"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model you will use the latents with."),
                io.MultiType.Input(
                    "frames", types=[io.Image, io.Video], tooltip="Images (a batch is one video) or a video."
                ),
                io.Int.Input(
                    "max_frames", default=0, min=0, max=1_000_000, tooltip="Use only the first frames. 0: all of them."
                ),
                io.Vae.Input(
                    "audio_vae",
                    optional=True,
                    tooltip=(
                        "For LTX-2 and MiniMax-H3: encodes the sound of a video too, as latents beside the picture's. "
                        "A video without sound gets room for one, to be generated."
                    ),
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="One clip, (1, C, T, H/8, W/8)."),
                io.Float.Output(display_name="fps", tooltip="Frames per second of the video; 12 for images."),
                io.Int.Output(display_name="num_frames", tooltip="Frames that were encoded."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, vae: Any, frames: Any, max_frames: int, audio_vae: Any = None) -> io.NodeOutput:
        """Stream the frames through the encoder."""
        from .host.time import entries_of_time
        from .host.vae import frames as video
        from .host.vae import heard, in_time, sound
        from .host.vae import others as other_vae
        from .host.vae import pieces as host_vae

        source = video.open_frames(frames)
        pieces = _counted(
            video.limit(source.pieces(), max_frames), min(max_frames or source.num_frames, source.num_frames)
        )
        fps = source.fps or FPS
        if not isinstance(vae, host_vae.SpacetimeVAE):
            latents, count, text = in_time.encode_clip(vae, pieces)
        else:
            fitted = video.FitFrames(pieces)
            latents = host_vae.encode_pieces(vae, fitted)
            count, text = fitted.frames_out, fitted.describe()
        time = other_vae.time_of(vae)
        entries = entries_of_time(time, fps)
        said = [text, *source.remarks()]
        if audio_vae is not None:
            canvas = Canvas.of(latents)
            canvas, remark = heard.with_sound(
                audio_vae, replace(canvas, entries=entries, time=time), source.sound(), fps
            )
            messages.show_text(cls, "\n".join([*said, remark]))
            return io.NodeOutput(heard.encoded(canvas), fps, count)
        carried = sound.entry_of(source.sound(), fps, latents)
        said += ["its sound goes along, to VAE Decode Video"] if carried else []
        messages.show_text(cls, "\n".join(said))
        return io.NodeOutput(made(latents, entries={**carried, **entries}), fps, count)


class VAEDecode(Node):
    """LATENT -> IMAGE and VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeVAEDecode",
            display_name="VAE Decode Video",
            category=CATEGORY,
            description=(
                "Decodes latents piece by piece, which equals decoding at once. With output 'video file' the frames go "
                "straight into an mp4 in ComfyUI's temp folder: memory stays the same however long the video is. "
                "Works with any VAE. The sound of an encoded "
                "video goes along where its frames keep their times."
            ),
            search_aliases=[
                "vae decode",
                "latent to video",
                "latent to image",
                "decode video",
                "streaming decode",
                "deflicker",
                "smooth video",
            ],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
                io.Latent.Input("latent", tooltip="Latents of one or several clips; several are joined end to end."),
                fps_input(),
                io.Combo.Input(
                    "output",
                    options=["images and video", "video file"],
                    default="images and video",
                    tooltip="'video file' writes an mp4 while decoding and gives no images: for long videos.",
                ),
                io.Boolean.Input(
                    "deflicker",
                    default=False,
                    optional=True,  # workflows from before it hold none
                    tooltip=(
                        "Decode once more, half a latent later, and mix both, so that nothing jumps from one latent's "
                        "frames to the next one's or where a video was joined. Slower, and a little softer."
                    ),
                ),
                io.Vae.Input(
                    "audio_vae",
                    optional=True,
                    tooltip="For LTX-2 and MiniMax-H3: decodes the sound that stands beside the picture.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="All frames. Not available with output 'video file'."),
                io.Video.Output(display_name="video", tooltip="For Save Video."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, vae: Any, latent: dict[str, Any], fps: float, output: str, deflicker: bool = False, audio_vae: Any = None
    ) -> io.NodeOutput:
        """Decode into memory or into a file."""
        from .host.time import carried_fps
        from .host.vae import frames as video
        from .host.vae import heard as heard_vae
        from .host.vae import others as other_vae
        from .host.vae import sound
        from .host.vae.deflicker import decode_steadily
        from .host.vae.pieces import decode_pieces

        samples, beside = nested_pair(content(latent))
        rate = fps or carried_fps(latent) or FPS
        loop = bool(latent.get(sockets.LOOP))
        expected = _frames_to_decode(samples, loop, other_vae.time_of(vae))
        decode = decode_steadily if deflicker else decode_pieces
        pieces = _counted(decode(vae, samples, cyclic=loop), expected)
        heard, said = (
            sound.kept(latent, samples, rate)
            if beside is None
            else heard_vae.of_latent(audio_vae, samples, beside, cyclic=loop)
        )
        known = fps or carried_fps(latent)
        unsaid = "" if known else f"{rate:g} frames per second, since the clip does not say: set fps"
        if texts := [text for text in (said, unsaid) if text]:
            messages.show_text(cls, "\n".join(texts))
        if output == "video file":
            with video.VideoWriter(rate, sound=heard) as writer:
                for images in pieces:
                    writer.write(images)
            return io.NodeOutput(video.images_not_kept(), writer.video())
        images = torch.cat(list(pieces))
        return io.NodeOutput(images, video.video_of(images, rate, heard))


def _frames_to_decode(samples: torch.Tensor, loop: bool, time: Frames) -> int:
    return samples.shape[0] * time.count(samples.shape[2] if samples.ndim == 5 else 1, cyclic=loop)


def _counted(pieces: Any, total: int) -> Any:
    """The same pieces, with the node's progress bar moving along."""
    bar = messages.progress_bar(total)
    for piece in pieces:
        yield piece
        bar.update(len(piece))


NODES: list[type[io.ComfyNode]] = [EmptyVideo, VAEEncode, VAEDecode]
