"""Several seeds as far as one can tell them apart, and then those alone that were picked."""

from __future__ import annotations

import re
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..models.geometry import FPS
from ..models.media.sheet import columns_of, moving_sheet
from ..models.patches import Tokens
from ..models.remedies import cut
from . import sockets
from .denoise import CATEGORY
from .host import messages
from .host.latent import samples_of
from .inputs import fps_input
from .schema import Node, schema
from .tokens import denoised_latent


class ExploreSeeds(Node):
    """Clean TOKENS -> a run for each seed, and what the model guesses of each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeExploreSeeds",
            display_name="Explore Seeds",
            category=CATEGORY,
            description=(
                "Runs the first steps from several seeds, one after the other, and shows the model's guess of each "
                "video side by side. Pick Runs hands on those that you like, and DiT Denoise Step finishes these "
                "alone: each is, to the bit, what a whole run from its seed gives. Save Run keeps them for later."
            ),
            search_aliases=["seed explorer", "many seeds", "contact sheet", "preview seeds", "seed grid", "xy plot"],
            inputs=[
                sockets.Tokens.Input("tokens", tooltip="Clean patches, from Patchify: what each run starts from."),
                io.Noise.Input("noise", tooltip="RandomNoise: its seed is the first, the others count up from it."),
                io.Sigmas.Input("sigmas", tooltip="The schedule of the whole run."),
                io.Guider.Input("guider", tooltip="Model and prompt."),
                io.Sampler.Input("sampler", tooltip="Any sampler; the same one must finish the runs."),
                io.Vae.Input("vae", tooltip="To show the guesses."),
                io.Int.Input("seeds", default=4, min=1, max=64, tooltip="How many seeds to begin."),
                io.Int.Input("steps", default=8, min=1, max=1000, tooltip="Steps to make from each seed."),
                fps_input(),
            ],
            outputs=[
                sockets.Tokens.Output(
                    display_name="runs", is_output_list=True, tooltip="A run per seed, for Pick Runs or Save Run."
                ),
                io.Image.Output(display_name="sheet", tooltip="All guesses side by side, frame by frame."),
                io.String.Output(display_name="seeds", tooltip="The seeds, in the order of the sheet."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        tokens: Tokens,
        noise: Any,
        sigmas: torch.Tensor,
        guider: Any,
        sampler: Any,
        vae: Any,
        seeds: int,
        steps: int,
        fps: float,
    ) -> io.NodeOutput:
        """Begin a run from each seed, and show them."""
        from .host.stepping.exploring import explored
        from .host.time import carried_fps

        runs = explored(
            tokens, noise, sigmas, guider, sampler, seeds, steps, lambda text: messages.show_text(cls, text)
        )
        sheet = moving_sheet(
            [guess_of(vae, run) for _, run in runs],
            [f"{number}: seed {seed}" for number, (seed, _) in enumerate(runs, start=1)],
        )
        shown = ui.ImageSaveHelper.save_animated_webp(
            sheet,
            "spacetime_seeds",
            io.FolderType.temp,
            None,
            fps or carried_fps(tokens.extra) or FPS,
            lossless=False,
            quality=85,
            method=4,
        )
        said = f"{seeds} runs at step {steps} of {len(sigmas) - 1}: pick by number"
        return io.NodeOutput(
            [run for _, run in runs],
            sheet,
            ", ".join(str(seed) for seed, _ in runs),
            ui={"images": [shown], "animated": (True,), "text": (said,), "spacetime_sheet": [sheet_of(shown, runs)]},
        )


def sheet_of(shown: Any, runs: list[tuple[int, Tokens]]) -> dict[str, Any]:
    """What Pick Runs needs to know of a sheet that is clicked on: its file, its columns and rows, the seeds as text."""
    columns = columns_of(len(runs))
    place = {key: str(getattr(value, "value", value)) for key, value in dict(shown).items()}
    return {**place, "columns": columns, "rows": -(-len(runs) // columns), "seeds": [str(seed) for seed, _ in runs]}


def guess_of(vae: Any, run: Tokens) -> torch.Tensor:
    """The frames (F, H, W, 3) of the first clip of what the model guesses now."""
    from .host.vae.pieces import decode_pieces

    latent = denoised_latent(run)
    pieces = decode_pieces(vae, samples_of(latent)[:1], cyclic=bool(latent.get(sockets.LOOP)))
    return torch.cat(list(pieces))


class PickRuns(Node):
    """A list of TOKENS -> those of them that were picked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimePickRuns",
            display_name="Pick Runs",
            category=CATEGORY,
            description=(
                "Hands on those of several runs whose numbers are written down, so that only these are finished. "
                "With no number nothing that follows runs: queue once to see the sheet of Explore Seeds, write down "
                "what you like, and queue again; the first steps are not made once more."
            ),
            search_aliases=["choose seeds", "select from list", "pick from batch", "select runs"],
            inputs=[
                sockets.Tokens.Input("runs", tooltip="From Explore Seeds, or any list of runs."),
                io.String.Input("pick", default="", tooltip="Numbers from 1 on, as in `1, 3`; `all`, or nothing yet."),
            ],
            outputs=[
                sockets.Tokens.Output(
                    display_name="tokens", is_output_list=True, tooltip="What follows runs once for each."
                )
            ],
            hidden=[io.Hidden.unique_id],
            is_input_list=True,
        )

    @classmethod
    def execute(cls, runs: list[Tokens], pick: list[str]) -> io.NodeOutput:
        """Choose."""
        from .host.stepping.exploring import nothing_yet

        numbers = picked(pick[0], len(runs))
        if not numbers:
            messages.show_text(
                cls,
                f"nothing is picked yet: click on the sheet, or write numbers from 1 to {len(runs)}, and queue again",
            )
            return io.NodeOutput(nothing_yet())
        messages.show_text(cls, f"{', '.join(map(str, numbers))} of {len(runs)}")
        return io.NodeOutput([runs[number - 1] for number in numbers])


def picked(text: str, count: int) -> list[int]:
    """The numbers in a text, each once. ValueError for what is no number from 1 to count."""
    words = [word for word in re.split(r"[\s,;]+", text.strip()) if word]
    if [word.lower() for word in words] == ["all"]:
        return list(range(1, count + 1))
    for word in words:
        if not word.isdecimal() or len(word) > 4 or not 1 <= int(word) <= count:
            raise ValueError(
                f'pick is "{cut(text, 40)}", and there are {count} runs: write numbers from 1 to {count}, as in '
                "`1, 3`, or `all`"
            )
    return list(dict.fromkeys(int(word) for word in words))


NODES: list[type[io.ComfyNode]] = [ExploreSeeds, PickRuns]
