"""Nothing that a LATENT carries is lost between nodes: over ordered pairs of nodes that take one and give one.

The nodes come from the registry and their arguments from their schemas, so a new node is tested without being named.
All pairs would be as many as the square of the nodes. A node stands before and after one node of each kind instead, of
which there are few: what is lost is lost by what a node takes and gives, not by the name of the one beside it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import cycle, product
from typing import Any

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.tools.in_process import load_host

FOREIGN = "an_entry_of_another_pack"
NOT_OURS = {"model's boundary"}  # choices for other models than the embedded one: it refuses them in a sentence
# what a widget is set to where its default does nothing or takes long
WIDGETS = {
    "left": 16,
    "bottom": 32,
    "seconds": 0.7,
    "fps": 12.0,
    "window": 2.0,
    "context": 0.5,
    "steps": 1,
    "start": 0.25,
    "seeds": 2,
    "pick": "1",
}


def nodes() -> list[Any]:
    """Nodes that give a clip as LATENT or TOKENS and are made of one, or of pictures and a VAE (of neither: an empty
    latent, which carries nothing yet)."""
    if not load_host():
        return []
    from comfyui_spacetime.nodes import load_nodes

    def carries(node: Any) -> bool:
        schema = node.define_schema()
        taken, given = ({socket.get_io_type() for socket in sockets} for sockets in (schema.inputs, schema.outputs))
        clips = {"LATENT", "SPACETIME_TOKENS"}
        pictures = "VAE" in taken and any("IMAGE" in kind for kind in taken)
        return bool(clips & given) and (bool(clips & taken) or pictures)

    return [node for node in load_nodes() if carries(node)]


def cases() -> Iterator[Any]:
    """(node, choices of its combos, the LATENT input that gets the clip) for all that a node can do with a clip."""
    for node in nodes():
        inputs = node.define_schema().inputs
        combos = {
            one.id: [choice for choice in one.options if choice not in NOT_OURS]
            for one in inputs
            if one.get_io_type() == "COMBO"
        }
        clips = [one.id for one in inputs if one.get_io_type() in ("LATENT", "SPACETIME_TOKENS")] or [""]
        for *choices, clip in product(*combos.values(), clips):
            chosen = dict(zip(combos, choices, strict=True))
            words = [*(str(choice) for choice in choices), *([clip] if len(clips) > 1 else [])]
            yield pytest.param((node, chosen, clip), id=" ".join([node.__name__, *words]))


def kind_of(node: Any) -> tuple[Any, ...]:
    """What a node does with clips, as far as its sockets say it."""
    schema = node.define_schema()
    kinds = ("LATENT", "SPACETIME_TOKENS", "GUIDER")
    taken, given = (
        [one for one in sockets if one.get_io_type() in kinds] for sockets in (schema.inputs, schema.outputs)
    )
    types = tuple(tuple(sorted(one.get_io_type() for one in sockets)) for sockets in (taken, given))
    return (*types, schema.is_input_list, any(one.is_output_list for one in given))


def pairs() -> Iterator[tuple[Any, Any]]:
    """(first, second) so that each node stands before and after each kind, in each of its choices in turn."""
    kinds: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    choices: dict[Any, list[Any]] = defaultdict(list)
    for case in CASES:
        node = case.values[0][0]
        choices[node].append(case)
        if node not in kinds[kind_of(node)]:
            kinds[kind_of(node)].append(node)
    turns = {(role, node): cycle(choices[node]) for role in ("first", "second") for node in choices}
    for before, after in product(kinds.values(), repeat=2):
        for i in range(max(len(before), len(after))):
            first, second = before[i % len(before)], after[(i + 1) % len(after)]
            if choices[second][0] in TAKING:
                yield next(turns["first", first]), next(turns["second", second])


CASES = list(cases())
TAKING = [case for case in CASES if case.values[0][2]]
PAIRS = [pytest.param(*first.values, *second.values, id=f"{first.id}-{second.id}") for first, second in pairs()]


@pytest.fixture(scope="module")
def objects(tiny_objects) -> dict[Any, Any]:
    """A value for each socket that is no clip."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import CFGGuider, Noise_RandomNoise

    from nodes import CLIPTextEncode

    model, clip, vae = tiny_objects
    prompt = CLIPTextEncode().encode(clip, "a red ball falls")[0]
    pictures = torch.rand(17, 64, 64, 3, generator=torch.manual_seed(0))
    mask = torch.zeros(1, 64, 64)
    mask[:, :, :32] = 1
    return {
        "MODEL": model,
        "CLIP": clip,
        "VAE": vae,
        "IMAGE": pictures[:1],
        "IMAGE,VIDEO": pictures,
        "MASK": mask,
        "CONDITIONING": prompt,
        "GUIDER": CFGGuider.execute(model, prompt, prompt, 1.0).result[0],
        "SAMPLER": comfy.samplers.sampler_object("euler"),
        "SIGMAS": torch.tensor([1.0, 0.5, 0.0]),
        "NOISE": Noise_RandomNoise(3),
    }


Case = tuple[Any, dict[str, str], str]


def perform(case: Case, latent: dict[str, Any], objects: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The LATENTs that a node makes of a clip. Its ValueErrors come through."""
    node, chosen, place = case
    arguments = {}
    for one in node.define_schema().inputs:
        kind = one.get_io_type()
        if kind in ("LATENT", "SPACETIME_TOKENS"):
            arguments[one.id] = latent if one.id == place else companion(latent)
        elif kind in objects and one.id != "audio_vae":  # of models with sound, which this is not
            arguments[one.id] = objects[kind]
        elif one.id in chosen:
            arguments[one.id] = chosen[one.id]
        elif not one.optional:
            arguments[one.id] = WIDGETS.get(one.id, getattr(one, "default", None))
    tokens = any(one.get_io_type() == "SPACETIME_TOKENS" for one in node.define_schema().inputs)
    with torch.inference_mode():
        out = with_tokens(node, arguments, place, objects) if tokens else node.execute(**arguments)
        return latents_in(node, out)


def with_tokens(node: Any, arguments: dict[str, Any], place: str, objects: Mapping[str, Any]) -> Any:
    """Run a node on the patches of a clip; noised ones where it wants a run that has begun."""
    from comfyui_spacetime.nodes.denoise import ForwardDiffusion
    from comfyui_spacetime.nodes.tokens import Patchify

    def run(tokens: Any) -> Any:
        given = {**arguments, place: tokens}
        return node.execute(**({name: [value] for name, value in given.items()} if listed else given))

    listed = node.define_schema().is_input_list
    (tokens,) = Patchify.execute(arguments[place], 1, 2, 2).result
    try:
        return run(tokens)
    except ValueError as error:
        if "Forward Diffusion" not in str(error):
            raise
    return run(ForwardDiffusion.execute(tokens, objects["NOISE"], objects["SIGMAS"]).result[0])


def latents_in(node: Any, out: Any) -> list[dict[str, Any]]:
    """All clips among the outputs, as LATENT."""
    from comfyui_spacetime.nodes.tokens import Unpatchify

    found: list[dict[str, Any]] = []
    for socket, value in zip(node.define_schema().outputs, out.result, strict=True):
        if socket.get_io_type() == "LATENT":
            found += value if isinstance(value, list) else [value]
        elif socket.get_io_type() == "SPACETIME_TOKENS":
            found += [Unpatchify.execute(one).result[0] for one in (value if isinstance(value, list) else [value])]
    return found


def clip_with(batch: int = 1, *, frames: int = 5, **entries: Any) -> dict[str, Any]:
    """A known clip, each place of it with a number of its own in channel 0, and what else it carries."""
    samples = torch.randn(batch, 16, frames, 8, 8, generator=torch.Generator().manual_seed(batch))
    return numbered({"samples": samples, FOREIGN: "kept", **entries})


def numbered(latent: dict[str, Any]) -> dict[str, Any]:
    samples = latent["samples"].clone()
    samples[:, 0] = torch.arange(1, 1 + samples[:, 0].numel()).reshape(samples[:, 0].shape)
    return {**latent, "samples": samples}


def companion(latent: dict[str, Any]) -> dict[str, Any]:
    """Another clip of the same shape and kind, with nothing to be generated."""
    from comfyui_spacetime.nodes import sockets

    kept = {name: value for name, value in latent.items() if name == sockets.LOOP}
    return {**kept, "samples": torch.randn(latent["samples"].shape, generator=torch.manual_seed(9)) - 5}


def places(latent: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The number of each place of a LATENT, packed or not, and how far it is still to be generated."""
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.host.latent import canvas_of
    from comfyui_spacetime.nodes.packing import SplitClips

    clips = SplitClips.execute(latent).result[0] if sockets.GRIDS in latent else [latent]
    canvases = [canvas_of(clip) for clip in clips]
    numbers = torch.cat([canvas.latents[:, 0].flatten() for canvas in canvases])
    return numbers, torch.cat([canvas.change.flatten() for canvas in canvases])


def samples_itself(case: Case) -> bool:
    return any(one.get_io_type() == "GUIDER" for one in case[0].define_schema().inputs)


def check_nothing_is_lost(before: dict[str, Any], outputs: list[dict[str, Any]], *, sampled: bool) -> None:
    """Entries, the circle, and the level of each place that is in both clips: of equal shape, or by its number."""
    from comfyui_spacetime.nodes import sockets

    carried = [
        entries for latent in outputs for entries in (latent, *(own for own, _ in latent.get(sockets.ENTRIES, ())))
    ]
    assert any(entries.get(FOREIGN) == "kept" for entries in carried)
    assert any(entries.get(sockets.LOOP) for entries in carried) or not before.get(sockets.LOOP)
    numbers, levels = places(before)
    expected = dict(zip(numbers.tolist(), levels.tolist(), strict=True))
    for latent in [] if sampled else outputs:
        made_numbers, made = places(latent)
        if made.shape == levels.shape:
            assert bool((made >= levels).all())
            continue
        for number, level in zip(made_numbers.tolist(), made.tolist(), strict=True):
            assert level >= expected.get(number, 0.0)


def may_refuse(case: Case, latent: dict[str, Any]) -> bool:
    """Circles have no ends, packed rows are taken apart first, and a node that samples wants to know where from.

    A stream is one video, and a clip of two latents is too short for a context of three.
    """
    from comfyui_spacetime.nodes import sockets

    packed = sockets.GRIDS in latent or case[0].__name__ == "SplitClips"
    finished = samples_itself(case) or case[0].__name__ == "SecondPass"  # they want nothing that is still open
    many = case[0].__name__ == "StreamVideo" and latent["samples"].shape[0] > 1
    short = samples_itself(case) and latent["samples"].shape[2] < 3
    return bool(latent.get(sockets.LOOP)) or packed or many or short or (finished and bool(places(latent)[1].any()))


def attempt(case: Case, latent: dict[str, Any], objects: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a node makes of a clip, with nothing lost; nothing where it may refuse, and does so in a sentence."""
    try:
        outputs = perform(case, latent, objects)
    except ValueError as error:
        if not (may_refuse(case, latent) and 20 < len(str(error)) < 400):
            raise
        return []
    if case[2]:
        check_nothing_is_lost(latent, outputs, sampled=samples_itself(case))
    return outputs


def made_first(case: Case, objects: dict[str, Any], batch: int, **entries: Any) -> list[dict[str, Any]]:
    """What a node makes of a known clip, computed once for all nodes that come after it."""
    key = (case[0], *case[1].values(), case[2], batch, *entries)
    if key not in objects:
        objects[key] = attempt(case, clip_with(batch, **entries), objects)
    return objects[key]


def without_marks(latent: dict[str, Any]) -> dict[str, Any]:
    """A clip with numbered places as a node of another pack would hand it on, with its mask and its entries."""
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.host.latent import OPEN

    given = {name: value for name, value in latent.items() if name != OPEN}
    return {FOREIGN: "kept", **(given if sockets.GRIDS in latent else numbered(given))}


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize(("batch", "loop"), [(1, False), (2, True)])
def test_what_was_still_to_be_generated_stays_so(objects, one_thread, first, second, batch, loop):
    from comfyui_spacetime.nodes import sockets

    for between in made_first(first, objects, batch, **({sockets.LOOP: True} if loop else {})):
        attempt(second, without_marks(between), objects)
        attempt(second, {FOREIGN: "kept", **between}, objects)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_has_been_sampled_is_not_generated_again(objects, one_thread, first, second):
    """Samplers hand on the mask as it came, so it says nothing about the clip that they made."""
    for between in made_first(first, objects, 2):
        sampled = {**between, FOREIGN: "kept", "samples": torch.rand_like(between["samples"]) + 1}
        plain = {name: value for name, value in sampled.items() if name != "noise_mask"}
        pairs = zip(*(attempt(second, one, objects) for one in (sampled, plain)), strict=True)
        for one, other in pairs:
            if "noise_mask" in other:  # other nodes hand the mask on, for another run over the same places
                assert bool((places(one)[1] <= places(other)[1]).all())


def test_the_registry_has_what_this_is_about():
    if not CASES:
        pytest.skip("ComfyUI has not been fetched: python3 run.py setup")
    names = {case.values[0][0].__name__ for case in CASES}
    assert names >= {"AnimateImage", "ExtendVideo", "ConnectVideos", "LoopVideo", "RestyleVideo", "FillRegion"}
    assert names >= {"Outpaint", "ExtendFar", "PackClips", "SplitClips", "Patchify", "ForwardDiffusion", "DenoiseStep"}


def test_every_node_stands_before_and_after_every_kind():
    cases, kinds = {case.id for case in CASES}, {kind_of(case.values[0][0]) for case in CASES}
    nodes_there, taking = {case.values[0][0] for case in CASES}, {case.values[0][0] for case in TAKING}
    ids = [pair.id.split("-") for pair in PAIRS]
    assert {first for first, _ in ids} == cases
    assert {second for _, second in ids} == {case.id for case in TAKING}
    ordered = [(first[0], second[0]) for first, second in (pair.values for pair in PAIRS)]
    assert {(first, kind_of(second)) for first, second in ordered} == set(product(nodes_there, map(kind_of, taking)))
    assert {(kind_of(first), second) for first, second in ordered} == set(product(kinds, taking))


def test_an_empty_video_is_to_be_generated_whatever_is_laid_around_it(comfy_host):
    from comfyui_spacetime.nodes.latents import EmptyVideo
    from comfyui_spacetime.nodes.tasks.in_space import Outpaint

    empty = EmptyVideo.execute(64, 64, 1.0, 12.0, 1).result[0]
    assert bool((Outpaint.execute(empty, 16, 0, 0, 0, 0, 8).result[0]["noise_mask"] == 1).all())


def test_a_mask_of_another_node_stays_until_it_says_otherwise(comfy_host):
    from comfyui_spacetime.nodes.tasks.in_space import Outpaint
    from nodes import SetLatentNoiseMask

    pixels = torch.zeros(1, 64, 64)
    pixels[:, :32] = 1
    (marked,) = SetLatentNoiseMask().set_mask(clip_with(), pixels)
    made = Outpaint.execute(marked, 16, 0, 0, 0, 0, 8).result[0]
    assert bool((made["noise_mask"][..., :4, :] == 1).all())
    assert not made["noise_mask"][..., 4:, 2:].any()
    sampled = {**made, "samples": torch.rand_like(made["samples"])}
    (again,) = SetLatentNoiseMask().set_mask(sampled, pixels)
    assert bool(places(again)[1].any()), "asked for anew after sampling"
    (nothing,) = SetLatentNoiseMask().set_mask(sampled, torch.zeros(1, 64, 64))
    assert not places(nothing)[1].any()


def test_batches_are_cut_and_repeated_and_other_sizes_are_asked_about(comfy_host):
    from comfyui_spacetime.nodes.tasks.in_space import Outpaint

    made = Outpaint.execute(clip_with(2), 16, 0, 0, 0, 0, 8).result[0]
    one = {**made, "samples": made["samples"][1:].repeat(3, 1, 1, 1, 1)}
    assert bool(places(one)[1].any())
    assert not places({**one, "samples": one["samples"] + 1})[1].any()
    with pytest.raises(ValueError, match="were resized since a task node"):
        places({**made, "samples": made["samples"][..., :4]})


def test_what_contradicts_is_refused(comfy_host):
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.packing import in_a_row
    from comfyui_spacetime.nodes.tasks.along_time import ExtendVideo
    from comfyui_spacetime.nodes.tasks.connect import ConnectVideos
    from comfyui_spacetime.nodes.tokens import Patchify

    other = {**clip_with(), FOREIGN: torch.ones(3)}
    with pytest.raises(ValueError, match="both clips carry an entry 'an_entry_of_another_pack'"):
        ConnectVideos.execute(clip_with(), other, "gap", 1.0, 0.2, 12.0, 4)
    with pytest.raises(ValueError, match="is a loop and has no end to extend"):
        ExtendVideo.execute(clip_with(**{sockets.LOOP: True}), "forward", 1.0, 12.0, 4)
    packed = in_a_row([Patchify.execute(clip_with(), 1, 2, 2).result[0]] * 2)
    with pytest.raises(ValueError, match="Split Clips first"):
        ExtendVideo.execute(packed, "forward", 1.0, 12.0, 4)
