"""What a step of a run waits for on the pretended GPU: with core's samplers, with ours, and after what nodes change."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .node_runs import Bench

CHANGED = {"MODEL", "CONDITIONING"}  # a node that takes and gives one of these changes runs


class Waits:
    """Counts for runs of the tiny model, by their names."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.per_step: dict[str, float] = {}
        self.tasks: dict[str, float] = {}
        self.changes: dict[str, float] = {}  # by node
        self.strips = 0  # moving strips that the counted runs have shown

    def count(self, name: str, run: Callable[[int], Any]) -> float:
        """What a step of a run waits for: a longer run less a shorter one."""
        totals = []
        for steps in (2, 4):
            self.bench.gpu.waits.clear()
            run(steps)
            totals.append(self.bench.gpu.waits.copy())
        more = {key: number - totals[0].get(key, 0) for key, number in totals[1].items()}
        for (kind, line), number in sorted(more.items(), key=lambda entry: -entry[1]):
            if number > 0:
                sys.stderr.write(f"{name}: {number / 2:g} x {kind}: {line}\n")
        return sum(number for (kind, _), number in more.items() if "asynchronous" not in kind) / 2

    def guider(self, model: Any = None, mode: str = "cfg", positive: Any = None) -> Any:
        """Ours, with a negative prompt."""
        from ...nodes.guidance import Guider

        bench = self.bench
        settings = (3.0, mode, "percent", 0.0, 1.0, 0.7, 0.1, 2.0, 1)
        given = (model or bench.checkpoint()[0], positive or bench.conditioning())
        return Guider.execute(*given, *settings, bench.conditioning(""), None).result[0]

    def sample(self, guider: Any, latent: Any, steps: int, sampler: Any) -> None:
        """A run of core's SamplerCustomAdvanced."""
        from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced

        SamplerCustomAdvanced.execute(self.bench.noise(), guider, sampler, levels(steps), latent)

    def stepped(self, steps: int, each: int, sampler: Any) -> None:
        """A run of Denoise Step, in calls of so many steps."""
        from ...nodes import denoise, tokens

        empty = self.bench.of("SpacetimeEmptyVideo")
        patches = tokens.Patchify.execute(empty, 1, 2, 2).result[0]
        run = denoise.ForwardDiffusion.execute(patches, self.bench.noise(), levels(steps)).result[0]
        done = False
        while not done:
            run, _, done = denoise.DenoiseStep.execute(run, self.guider(), sampler, each).result

    def of_samplers(self) -> None:
        """Runs of all kinds, while an editor looks on: core's sampler, our guider and solvers, single steps."""
        import comfy.samplers

        import nodes as core

        from ...nodes.guidance import HistoryGuidance
        from ...nodes.host import messages, strips

        strips.PAUSE, shown = 0.0, []
        messages.listening_node, messages.show_json = lambda: "1", lambda *_: shown.append(1)
        bench, sample, stepped, guider = self.bench, self.sample, self.stepped, self.guider
        model, (positive, negative) = bench.checkpoint()[0], (bench.conditioning(), bench.conditioning(""))
        empty, euler, ours = bench.of("SpacetimeEmptyVideo"), comfy.samplers.sampler_object("euler"), unipc()
        plain = comfy.samplers.CFGGuider(model)
        plain.set_conds(positive, negative)
        plain.set_cfg(3.0)
        history = guider(HistoryGuidance.execute(model, 0.5).result[0])
        ksampler = core.KSampler().sample
        runs: dict[str, Callable[[int], Any]] = {
            "KSampler": lambda n: ksampler(model, 1, n, 3.0, "euler", "simple", positive, negative, empty),
            "core's guider, core's euler": lambda n: sample(plain, empty, n, euler),
            "core's guider, a call each": lambda n: [sample(plain, empty, 1, euler) for _ in range(n)],
            "Guider, core's euler": lambda n: sample(guider(), empty, n, euler),
            "Guider, unipc": lambda n: sample(guider(), empty, n, ours),
            "Guider cfg_zero_star, unipc": lambda n: sample(guider(mode="cfg_zero_star"), empty, n, ours),
            "History Guidance, unipc": lambda n: sample(history, with_known_frame(empty), n, ours),
            "Denoise Step in one call, unipc": lambda n: stepped(n, 0, ours),
            "Denoise Step, a call each, unipc": lambda n: stepped(n, 1, ours),
            "Denoise Step in one call, core's euler": lambda n: stepped(n, 0, euler),
            "Denoise Step, a call each, core's euler": lambda n: stepped(n, 1, euler),
        }
        self.per_step = {name: self.count(name, run) for name, run in runs.items()}
        self.strips = len(shown)

    def of_tasks(self) -> None:
        """What steps, calls and pieces of the nodes wait for that sample by themselves, or in a way of their own."""
        from ...nodes.explore import ExploreSeeds
        from ...nodes.tasks.long import ExtendFar
        from ...nodes.tasks.second_pass import SecondPass

        bench, guider, ours = self.bench, self.guider(), unipc()
        model, vae, clip = bench.checkpoint()[0], bench.checkpoint()[2], bench.of("SpacetimeVAEEncode")
        empty = bench.of("SpacetimeEmptyVideo")
        patches, noise = bench.nodes["SpacetimePatchify"].execute(empty, 1, 2, 2).result[0], bench.noise()
        tiled, larger, _, _ = SecondPass.execute(model, clip, levels(8), 2.0, 1, 0.5, 1.0, 0.25, 12.0, 4).result

        def far(steps: int, windows: int) -> None:  # of 3 latents, 2 of them new
            ExtendFar.execute(
                guider, ours, levels(steps), noise, clip, "forward", 2 * windows / 3, 0.7, 0.3, 0.3, 12.0, 4
            )

        def explored(steps: int, seeds: int) -> None:
            ExploreSeeds.execute(patches, noise, levels(6), guider, ours, vae, seeds, steps, 12.0)

        runs: dict[str, Callable[[int], Any]] = {
            "Stream Video, a latent of one call": lambda n: self.stream(n, 2),
            "Stream Video, a call": lambda n: self.stream(1, n),
            "Extend Far, a step": lambda n: far(n, 1),
            "Extend Far, a window": lambda n: far(1, n),
            "Second Pass, a step": lambda n: self.sample(self.guider(tiled), larger, n, ours),
            "Explore Seeds, a step": lambda n: explored(n, 1),
            "Explore Seeds, a seed": lambda n: explored(1, n),
        }
        self.tasks = {name: self.count(name, run) for name, run in runs.items()}

    def stream(self, latents: int, steps: int) -> None:
        """So many latents of a stream, of which two are open at a time and go down in so many steps, after a clip."""
        from ...nodes.sampling import Sampler
        from ...nodes.tasks.stream import StreamVideo

        bench, seconds = self.bench, latents * 4 / 12
        sampler, vae = Sampler.execute("euler_sde", 3, 1.0, 1.0).result[0], bench.checkpoint()[2]
        times = (seconds, "", 0.0, 1.0, 0.67, 12.0, 4)
        StreamVideo.execute(
            self.guider(), sampler, levels(steps), bench.noise(), bench.of("SpacetimeVAEEncode"), vae, *times
        )

    def of_changes(self) -> None:
        """Runs with what each node makes that changes a model or a prompt, on its latent if it gives one."""
        bench = self.bench
        for name, node in bench.nodes.items():
            schema = node.GET_SCHEMA()
            inputs = {one.get_io_type(): one for one in schema.inputs}
            given = [output.io_type for output in schema.outputs]
            if not CHANGED & inputs.keys() & set(given):
                continue
            made = {
                kind: bench.of(name, given.index(kind)) for kind in ("MODEL", "CONDITIONING", "LATENT") if kind in given
            }
            model = made.get("MODEL") or bench.value(name, inputs["MODEL"])
            latent = made.get("LATENT") or with_known_frame(bench.of("SpacetimeVAEEncode"))
            guider = self.guider(model, positive=made.get("CONDITIONING"))
            run = partial(self.sample, guider, latent, sampler=unipc())
            run(1)  # loads the model, where that is not there
            self.changes[name] = self.count(name, run)


def levels(steps: int) -> Any:
    """Noise levels for so many steps."""
    from ...nodes.sampling import Scheduler

    return Scheduler.execute("linear", steps, "fixed", 2.0, 1.0, 1.0).result[0]


def unipc() -> Any:
    """Our own solver."""
    from ...nodes.sampling import Sampler

    return Sampler.execute("unipc", 3, 1.0, 1.0).result[0]


def with_known_frame(latent: dict[str, Any]) -> dict[str, Any]:
    """Its first frame is to stay as it is."""
    samples = latent["samples"]
    mask = torch.ones(1, 1, *samples.shape[2:])
    mask[:, :, 0] = 0
    return {**latent, "samples": torch.randn_like(samples), "noise_mask": mask.to(samples)}
