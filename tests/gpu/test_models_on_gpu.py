"""models/ on a pretended GPU: where tensors lie, in every path that has a device, and what the host waits for."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models import flow, guidance, schedules, solvers
from comfyui_spacetime.models.captioner.captioner import CaptionerFile
from comfyui_spacetime.models.captioner.describer import Captioner
from comfyui_spacetime.models.captioner.network import PRESETS as CAPTIONERS
from comfyui_spacetime.models.captioner.network import CaptionNetwork
from comfyui_spacetime.models.captioner.vocabulary import Vocabulary
from comfyui_spacetime.models.captioner.writing import write_captions
from comfyui_spacetime.models.generate import Models, generate
from comfyui_spacetime.models.metrics import reference, seam, video
from comfyui_spacetime.models.patches import Grid, patchify, to_patches, unpatchify
from comfyui_spacetime.models.pixels import from_uint8, to_uint8
from comfyui_spacetime.models.tasks import in_space, levels
from comfyui_spacetime.models.text.encoder import load_text_encoder
from comfyui_spacetime.models.transformer.attention import matmul_attention
from comfyui_spacetime.models.transformer.config import PRESETS as DITS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae import deflicker
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE
from comfyui_spacetime.models.vae.memory import decoder_bytes, encoder_bytes
from comfyui_spacetime.tests.gpu.device import PretendedGPU
from comfyui_spacetime.tests.gpu.tensor import GPUTensor
from comfyui_spacetime.tools.bench.gpu.checks import CLIP, REGION, TASKS


@pytest.fixture
def gpu() -> Iterator[PretendedGPU]:
    with PretendedGPU() as found, torch.no_grad():
        yield found


def here(value: Any) -> Any:
    """Numbers of a result, wherever they lie."""
    return value.held if isinstance(value, GPUTensor) else value


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(here(found).float(), here(wanted).float(), rtol=tolerance, atol=tolerance)


def drawn(network: torch.nn.Module, std: float = 0.1) -> Any:
    """A network with random weights everywhere."""
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=std)
    return network.eval().requires_grad_(requires_grad=False)


def dit(**changes: Any) -> DiT:
    return drawn(DiT(replace(DITS["test"], **changes)))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# -- the transformer ---------------------------------------------------------------------------------------------------

X, TEXT = noise(2, 16, 3, 4, 6), noise(2, 5, 384)
MASK = torch.tensor([[True] * 5, [True, True, False, False, False]])
LEVELS = {"clip": torch.tensor([0.7, 0.3]), "frame": noise(2, 3).sigmoid(), "patch": noise(2, 18).sigmoid()}
FORWARDS: dict[str, dict[str, Any]] = {
    **{f"a level per {level}": {"level": level} for level in LEVELS},
    "bf16": {"dtype": torch.bfloat16, "tolerance": 0.2},
    "fp16": {"dtype": torch.float16, "tolerance": 0.05, "level": "patch"},
    "a text mask": {"mask": MASK},
    "a loop": {"cyclic": True, "level": "frame"},
    "classes": {"labels": torch.tensor([1, 3])},
    "plain products": {"attention": matmul_attention},
}


@pytest.mark.parametrize("case", FORWARDS)
def test_a_forward_pass_gives_what_the_cpu_gives(gpu, case):
    options = {"level": "clip", "dtype": torch.float32, "tolerance": 1e-4, "mask": None} | FORWARDS[case]
    level, dtype, tolerance, mask = (options.pop(name) for name in ("level", "dtype", "tolerance", "mask"))
    model = dit(num_classes=4 if "labels" in options else 0)
    wanted = model(X, LEVELS[level], TEXT, mask, **options)
    model.to("cuda", dtype)
    moved = {name: value.cuda() if isinstance(value, Tensor) else value for name, value in options.items()}
    mask = mask.cuda() if mask is not None else None
    close(model(X.to("cuda", dtype), LEVELS[level].cuda(), TEXT.to("cuda", dtype), mask, **moved), wanted, tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_at_extreme_values(dtype):
    model = dit().to(dtype)
    for scale in (1e-6, 1.0, 1e3):
        for sigma in (1e-5, 0.5, 1.0):
            out = model((X * scale).to(dtype), torch.tensor([sigma, sigma]), (TEXT * 10).to(dtype))
            assert out.isfinite().all(), (scale, sigma)


def test_packed_clips(gpu):
    model = dit(num_classes=4)
    clips = [X[:1], X[:1, :, :2, :2], X[:1, :, :1]]
    grids, values = [Grid.of(clip) for clip in clips], torch.cat([to_patches(clip) for clip in clips], dim=1)
    sigma, labels = noise(1, sum(grid.frames for grid in grids)).sigmoid(), torch.zeros(1, values.shape[1]).long()
    found = []
    for device in ("cpu", "cuda"):
        model.to(device)
        text, mask = TEXT[:1].repeat(1, 3, 1).to(device), MASK[1:].repeat(1, 3).to(device)
        prepared = model.prepare(grids, text, mask, context_lengths=(5, 5, 5), device=device)
        found.append(model.forward_tokens(values.to(device), sigma.to(device), prepared, labels=labels.to(device)))
    close(*found[::-1])


def test_tokens_keep_their_place(gpu):
    change = (noise(2, 1, 3, 4, 6) > 0).float()
    cut = patchify(X.cuda(), mask=change.cuda())
    assert unpatchify(cut).is_cuda
    close(unpatchify(cut), X)


# -- the VAE -----------------------------------------------------------------------------------------------------------

PIXELS, LATENTS = noise(1, 3, 17, 16, 24).clamp(-1, 1), noise(1, 16, 5, 2, 3)
VAE_CALLS: dict[str, Callable[[VideoVAE, str], Tensor]] = {
    "encode": lambda vae, device: vae.encode(PIXELS.to(device)),
    "decode": lambda vae, device: vae.decode(LATENTS.to(device)),
    "encode a loop": lambda vae, device: vae.encode(PIXELS[:, :, :16].to(device), cyclic=True),
    "decode a loop": lambda vae, device: vae.decode(LATENTS.to(device), cyclic=True),
    "encode pieces": lambda vae, device: torch.cat(
        list(vae.encode_stream(PIXELS.to(device).split([3, 1, 9, 4], dim=2))), dim=2
    ),
}


@pytest.mark.parametrize("call", VAE_CALLS)
def test_the_vae_gives_what_the_cpu_gives(gpu, call):
    vae = drawn(VideoVAE(VAES["test"]), 0.05)
    wanted = VAE_CALLS[call](vae, "cpu")
    close(VAE_CALLS[call](vae.cuda(), "cuda"), wanted)
    assert not any(isinstance(tail, GPUTensor) for tail in vars(vae).values()), "a stream leaves nothing in the VAE"


@pytest.mark.parametrize("preset", ["test", "toy"])
@pytest.mark.parametrize("shape", [(1, 16, 16), (5, 16, 16), (3, 64, 64)])
def test_the_memory_that_the_vae_asks_for_is_what_it_takes(gpu, preset, shape):
    if preset == "toy" and shape[1] > 16:
        pytest.skip("the widths are what differs between the presets")
    vae = VideoVAE(VAES[preset]).eval().cuda()
    length, height, width = shape
    latents = torch.zeros(1, 16, *shape).cuda()
    pixels = torch.zeros(1, 3, 4 * length - 3, 8 * height, 8 * width).cuda()
    for stream, given, asked in (
        (vae.decode_stream, latents, decoder_bytes(vae.config, latents.shape)),
        (vae.encode_stream, pixels, encoder_bytes(vae.config, pixels.shape)),
    ):
        before = gpu.most = gpu.bytes_held()
        gpu.measuring = True
        for _ in stream([given]):
            pass
        gpu.measuring = False
        assert (gpu.most - before) <= asked <= 2.2 * 1.25 * (gpu.most - before)  # with room for what convolutions take


def test_a_decoded_video_is_held_once(gpu):
    vae, latents = VideoVAE(VAES["test"]).eval().cuda(), torch.zeros(1, 16, 40, 8, 8).cuda()
    before = gpu.most = gpu.bytes_held()
    gpu.measuring = True
    out = vae.decode(latents)
    whole = out.numel() * out.element_size()
    assert gpu.most - before < 1.6 * whole


def test_deflickering_stays_on_the_gpu(gpu):
    frames = PIXELS[0].permute(1, 2, 3, 0).cuda()
    out = torch.cat(list(deflicker.deflicker(iter(frames.split(4)), lambda pieces: pieces, 4)))
    assert out.is_cuda
    assert deflicker.deflicker_loop(frames[:16], lambda loop: loop, 4).is_cuda


# -- solvers, guidance, tasks ------------------------------------------------------------------------------------------


def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.tanh(x) * (1 - sigma.reshape(-1, 1, 1, 1, 1) / 2)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_solvers_never_wait_for_the_gpu(gpu, name):
    def run(x: Tensor, steps: int) -> Tensor:
        levels_ = schedules.sigmas("linear", steps, shift=2.0)
        return solvers.sample(
            solvers.Solver(name=name, order=3), denoiser, x, levels_, None, solvers.noise_generator(3)
        )

    close(run(X.cuda(), 6), run(X, 6))
    waits = []
    for steps in (3, 6):
        gpu.waits.clear()
        run(X.cuda(), steps)
        waits.append(sum(number for (kind, _), number in gpu.waits.items()))
    draws = solvers.Solver(name=name).stochastic  # noise comes from the CPU, once a step
    assert waits[1] - waits[0] <= 3 * draws, gpu.waits


SIGMA = torch.tensor([0.5, 0.4])
GUIDED: dict[str, Callable[[Callable[[Tensor], Tensor]], Any]] = {
    "cfg": lambda at: guidance.cfg(at(X), at(X * 0.5), 4.0),
    "rescale": lambda at: guidance.cfg_rescale(at(X), at(X * 0.5), 4.0),
    "apg": lambda at: guidance.apg(at(X), at(X * 0.5), 4.0, guidance.APG(0.2, 3.0, -0.5), at(X))[0],
    "cfg_zero_star": lambda at: guidance.cfg_zero_star(at(X), at(X * 0.5), at(X), 4.0),
    "hidden history": lambda at: guidance.hidden_history(at(X), at((X[:, :1] > 0).float()), at(SIGMA), at(X))[0],
    "hidden history, mask on the CPU": lambda at: guidance.hidden_history(at(X), X[:, :1].sign(), at(SIGMA), X)[0],
    "noise": lambda at: flow.add_noise(at(X), at(X), at(SIGMA)),
    "times of DDPM": lambda at: flow.vp_timestep(at(SIGMA), flow.ddpm_alphas_cumprod()),
}


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_gives_what_the_cpu_gives(gpu, name):
    close(GUIDED[name](lambda x: x.cuda()), GUIDED[name](lambda x: x))


@pytest.mark.parametrize("task", TASKS)
def test_tasks_take_clips_on_the_gpu_and_masks_from_anywhere(gpu, task):
    canvas, wanted = TASKS[task](CLIP.cuda()), TASKS[task](CLIP)
    assert canvas.latents.is_cuda
    close(canvas.latents, wanted.latents)
    close(canvas.change, wanted.change)


@pytest.mark.parametrize("kind", levels.LEVELS)
def test_levels(gpu, kind):
    for sigma in (torch.tensor([0.5]), torch.tensor([0.5]).cuda()):
        close(levels.seen_change(REGION.cuda(), sigma, kind), levels.seen_change(REGION, torch.tensor([0.5]), kind))


# -- whole videos, metrics, captions -----------------------------------------------------------------------------------


def test_a_sentence_becomes_a_video_without_waiting_more_than_once_a_step(gpu):
    held = Models(dit(), drawn(VideoVAE(VAES["test"]), 0.05), load_text_encoder())
    size: dict[str, Any] = {"num_frames": 9, "height": 32, "width": 32}
    wanted = generate(held, ["a red ball"], steps=3, **size)
    there = Models(held.dit.cuda(), held.vae.cuda(), held.text)
    waits = []
    for steps in (3, 6):
        gpu.waits.clear()
        found = generate(there, ["a red ball"], steps=steps, **size)
        waits.append(sum(gpu.waits.values()))
        if steps == 3:
            assert np.abs(found[0].astype(int) - wanted[0].astype(int)).max() <= 2
    assert waits[1] - waits[0] <= 3, gpu.waits
    known = in_space.fill(CLIP[:, :, :3, :4, :4], REGION[:, :, :3, :4, :4])
    generate(there, ["a cube"], known=known, steps=2)
    generate(there, ["a cube"], steps=2, cyclic=True, **(size | {"num_frames": 8}))


def test_metrics_take_frames_on_the_gpu(gpu):
    frames = noise(9, 24, 32, 3).sigmoid()
    close(reference.ssim(frames.cuda(), frames.cuda() * 0.9), reference.ssim(frames, frames * 0.9))
    video.measure_video(iter(frames.cuda()), 12.0)
    seam.measure_loop(iter(frames.cuda()))
    assert (to_uint8(frames.cuda().permute(3, 0, 1, 2)) == to_uint8(frames.permute(3, 0, 1, 2))).all()


def test_frames_go_to_the_gpu_as_bytes(gpu):
    frames = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    there = from_uint8(frames, "cuda")
    assert gpu.bytes_sent == frames.nbytes
    close(there, from_uint8(frames), 0)


@pytest.mark.parametrize("network_at", ["cpu", "cuda"])
@pytest.mark.parametrize("vae_at", ["cpu", "cuda"])
def test_a_captioner_looks_wherever_it_and_its_vae_lie(gpu, network_at, vae_at):
    vocabulary = Vocabulary.of(["a red ball rolls to the left"])
    torch.manual_seed(0)
    network = CaptionNetwork(replace(CAPTIONERS["test"], vocabulary=len(vocabulary))).initialise().eval()
    vae = drawn(VideoVAE(VAES["test"]), 0.05)
    file = CaptionerFile(network.config, tuple(vocabulary.tokens), network.state_dict(), "x", {"sizes": ["32x32x9"]})
    captioner = Captioner.of("test", file, vae, "x")
    frames = np.random.default_rng(0).integers(0, 255, (9, 40, 48, 3), dtype=np.uint8)

    def written() -> list[str]:
        return write_captions(captioner.network, vocabulary, captioner.latents(frames), max_pieces=4)

    wanted = written()
    captioner.network.to(network_at)
    vae.to(vae_at)
    assert written() == wanted


def test_a_caption_waits_once_a_word(gpu):
    vocabulary = Vocabulary.of(["a red ball rolls to the left"])
    torch.manual_seed(0)
    network = CaptionNetwork(replace(CAPTIONERS["test"], vocabulary=len(vocabulary))).initialise().eval().cuda()
    latents, waits = X[:1].cuda(), []
    for words in (2, 6):
        gpu.waits.clear()
        write_captions(network, vocabulary, latents, max_pieces=words)
        waits.append(sum(number for (kind, _), number in gpu.waits.items() if "asynchronous" not in kind))
    assert waits[1] - waits[0] == 4, gpu.waits
