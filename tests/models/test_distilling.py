"""Distilling: the teacher's way cut into lines, a student that is nearer to the data, and runs like those of a DiT."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from comfyui_spacetime.models.checkpoints import Checkpoint, load_checkpoint, recommended_of
from comfyui_spacetime.models.files import read_tensors
from comfyui_spacetime.models.generate import text_denoiser
from comfyui_spacetime.models.guidance import cfg as guided
from comfyui_spacetime.models.patches import Grid, from_patches, to_patches
from comfyui_spacetime.models.recommended import Recommended
from comfyui_spacetime.models.solvers import Solver, sample
from comfyui_spacetime.models.training.distill import train as distilling
from comfyui_spacetime.models.training.distill.settings import Distillation
from comfyui_spacetime.models.training.distill.trajectories import SOLVER, Teacher
from comfyui_spacetime.models.training.dit.batches import Batch, draw_batch
from comfyui_spacetime.models.training.dit.lora import merge
from comfyui_spacetime.models.training.dit.train import batch_loss
from comfyui_spacetime.models.training.optim.optimiser import Optimiser, learning_rate_scale
from comfyui_spacetime.models.training.run.folder import generator
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

from .test_training_batches import EMPTY, cache, model  # noqa: F401 - fixtures

SETTINGS = Distillation(preset="test", tokens=60, dtype="float32", substeps=2, warmup=2, steps=8, save_every=4)

# -- the teacher's way -------------------------------------------------------------------------------------------------


def batch_of(cache, kind: str) -> Batch:  # noqa: F811
    """Clips with these noise levels: one for all, known frames at the start, a region, a level per frame, a loop."""
    size = "32x32x8c" if kind == "loop" else "32x32x9"
    batch = draw_batch(cache, EMPTY, replace(SETTINGS, mix=((size, 1.0),), images=0.0), generator(0, 0))
    sigma = torch.ones(batch.count, batch.grids[0].frames)
    if kind == "known":
        sigma[:, 0] = 0
    elif kind == "levels":
        sigma = torch.tensor([0.2, 0.5, 1.0]).expand(batch.count, -1)
    elif kind == "region":
        sigma = (torch.arange(batch.clean.shape[1]) % 2).float().expand(batch.count, -1)
    return replace(batch, sigma=0.7 * sigma)


KINDS = ["whole", "known", "levels", "region", "loop"]


@pytest.mark.parametrize("kind", KINDS)
def test_steps_along_the_lines_end_where_the_teacher_does(cache, model, kind):  # noqa: F811
    batch = batch_of(cache, kind)
    teacher = Teacher.of(model, EMPTY, SETTINGS)
    rows = teacher.segments(batch)
    assert rows.count == 4 * batch.count
    share = (batch.levels() / 0.7)[..., None]
    x = torch.lerp(batch.clean, batch.noise, share)
    levels = [*teacher.levels[::2]]
    for step, piece in enumerate(rows.parts(4)):
        assert torch.allclose(piece.levels()[..., None], share * levels[step], atol=1e-6)
        state = torch.lerp(piece.clean, piece.noise, piece.levels()[..., None])
        assert torch.allclose(state, x, atol=1e-4), "the student sees what the step before left"
        x = x - share * (levels[step] - levels[step + 1]) * (piece.noise - piece.clean)
    latents, whole = teachers_own(model, batch, share)
    assert torch.allclose(x, whole, atol=1e-4)
    known = (share == 0).expand_as(x)
    assert torch.equal(x[known], latents[known])
    assert not torch.allclose(x[~known], latents[~known], atol=0.1)


def teachers_own(model: DiT, batch: Batch, share: Tensor) -> tuple[Tensor, Tensor]:  # noqa: F811
    """The clips of a batch, and what the guided teacher makes of them by the ordinary functions, as tokens."""
    (grid,), rows = batch.grids, batch.count
    shape = tuple(size * p for size, p in zip(grid, model.config.patch, strict=True))
    nothing = (EMPTY[None].expand(rows, -1, -1), torch.ones(rows, len(EMPTY), dtype=torch.bool))
    texts = ((batch.context, batch.mask), nothing)
    with_text, without = (text_denoiser(model, text, shape, cyclic=batch.cyclic) for text in texts)
    level = share[..., 0]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        video = from_patches(x, grid)
        asked = [ask(video, level * sigma[:, None]) for ask in (with_text, without)]
        return to_patches(guided(*asked, SETTINGS.cfg))

    start = torch.lerp(batch.clean, batch.noise, share)
    with torch.no_grad():
        made = sample(SOLVER, denoise, start, torch.tensor(Teacher.of(model, EMPTY, SETTINGS).levels))
    return batch.clean, made


def test_a_teacher_without_guidance_is_asked_once_a_step(cache, model, monkeypatch):  # noqa: F811
    seen = []
    real = DiT.forward_tokens
    monkeypatch.setattr(DiT, "forward_tokens", lambda self, x, *a, **k: seen.append(len(x)) or real(self, x, *a, **k))
    batch = batch_of(cache, "whole")
    for strength, rows in ((1.0, batch.count), (2.0, 2 * batch.count)):
        seen.clear()
        Teacher.of(model, EMPTY, replace(SETTINGS, cfg=strength)).segments(batch)
        assert seen == [rows] * 8


# -- a world whose answer is known -------------------------------------------------------------------------------------

MODES, SPREAD = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), 0.1
WORD = torch.zeros(1, 1, 4)  # texts have no say in it


class Points(nn.Module):
    """Points of a plane as videos of one patch: what Teacher and batch_loss ask of a DiT."""

    config = SimpleNamespace(prediction="velocity", num_classes=0, patch=(1, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        self.cyclic_embedding = nn.Parameter(torch.zeros(1))
        self.patch_embedder = nn.Linear(1, 1)

    def prepare(self, *_given: object, **_named: object) -> None:
        return None

    def forward_tokens(self, x: Tensor, sigma: Tensor, _prepared: None, **_named: object) -> Tensor:
        return self.velocity(x[:, 0], sigma[:, :1])[:, None]


class Exact(Points):
    """The velocity of the mixture of normal distributions itself, in closed form."""

    def velocity(self, x: Tensor, sigma: Tensor) -> Tensor:
        variance = (1 - sigma) ** 2 * SPREAD**2 + sigma**2  # (B, 1), of x about each mode
        away = x[:, None] - (1 - sigma)[..., None] * MODES  # (B, modes, 2)
        weight = torch.softmax(-away.square().sum(-1) / (2 * variance), dim=1)[..., None]
        clean = MODES + ((1 - sigma) * SPREAD**2 / variance)[..., None] * away
        return (x - (weight * clean).sum(1)) / sigma


class Learned(Points):
    """The exact velocity and a correction that begins at zero: a student that begins as its teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.exact = Exact()
        hidden = [layer for _ in range(2) for layer in (nn.Linear(96, 96), nn.SiLU())]
        self.net = nn.Sequential(nn.Linear(3, 96), nn.SiLU(), *hidden, nn.Linear(96, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def velocity(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.exact.velocity(x, sigma) + self.net(torch.cat([x, 4 * sigma], dim=1))


def points(count: int, rng: torch.Generator) -> Batch:
    noise = torch.randn(count, 1, 2, generator=rng)
    return Batch(noise, noise, torch.ones(count, 1), WORD.expand(count, -1, -1), None, (Grid(1, 1, 1),), cyclic=False)


def strays(points: Tensor) -> float:
    """Share of points that are more than four deviations from every mode: of true ones 0.03 %."""
    return float((torch.cdist(points, MODES).amin(dim=1) > 4 * SPREAD).float().mean())


def shares(points: Tensor) -> Tensor:
    """Which share of the points each mode has."""
    return torch.cdist(points, MODES).argmin(dim=1).bincount(minlength=len(MODES)) / len(points)


@torch.no_grad()
def made_by(model: Points, levels: Tensor) -> Tensor:  # noqa: F811
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x - sigma[:, None] * model.velocity(x, sigma[:, None])

    return sample(Solver(name="euler"), denoise, torch.randn(4000, 2, generator=generator(9, 9)), levels)


def test_four_steps_of_a_student_are_nearer_to_the_data_than_four_of_its_teacher():
    torch.manual_seed(0)
    exact, settings = Exact(), replace(SETTINGS, cfg=1.0, substeps=4)
    teacher = Teacher.of(exact, WORD[0], settings)
    student = Learned()
    optimiser = Optimiser(student, learning_rate=1e-2, weight_decay=0, muon=False)
    for step in range(300):
        batch_loss(student, teacher.segments(points(256, generator(0, step)))).backward()
        optimiser.step(learning_rate_scale(step, 300))
    levels = torch.tensor(teacher.levels)
    coarse, distilled, fine = made_by(exact, levels[::4]), made_by(student, levels[::4]), made_by(exact, levels)
    assert strays(coarse) > 4 * strays(distilled)
    assert (shares(distilled) - shares(fine)).abs().max() < 0.03


# -- runs --------------------------------------------------------------------------------------------------------------


def start() -> Checkpoint:
    """A teacher that does something everywhere."""
    torch.manual_seed(0)
    dit = DiT(PRESETS["test"]).initialise()
    for parameter in dit.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    return Checkpoint(dit.config, dit.state_dict(), meta={"trained_on": ["32x32x9"]})


def distil(cache, out, teacher: Checkpoint, **changes: object) -> dict[str, Tensor]:  # noqa: F811
    torch.manual_seed(0)
    vae = VideoVAE(VAES["test"])  # that of the cache
    settings = replace(SETTINGS, **changes)
    return distilling.train(settings, cache, cache, EMPTY, vae, out, teacher).state_dict()


def losses(folder, name: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def test_a_student_comes_nearer_to_its_teacher(cache, tmp_path):  # noqa: F811
    distil(cache, tmp_path, start(), steps=36, save_every=36)
    seen = losses(tmp_path, "loss")
    assert seen[-1] < 0.5 * seen[0]
    assert losses(tmp_path, "validation_loss")[0] < 0.5 * seen[0]


def test_a_killed_run_continues_to_the_bit(cache, tmp_path, monkeypatch):  # noqa: F811
    teacher = start()
    whole = distil(cache, tmp_path / "whole", teacher)
    real = Optimiser.step

    def dies(self: Optimiser, *given: object) -> float:
        if self.steps == 5:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(Optimiser, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        distil(cache, tmp_path / "killed", teacher)
    monkeypatch.undo()
    resumed = distil(cache, tmp_path / "killed", teacher)
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    with pytest.raises(ValueError, match="holds a run with other settings"):
        distil(cache, tmp_path / "killed", teacher, cfg=3.0)


@pytest.mark.parametrize("lora", [0, 2])
def test_files_say_that_they_are_for_few_steps_without_guidance(cache, tmp_path, lora):  # noqa: F811
    teacher = start()
    student = distil(cache, tmp_path, teacher, lora=lora, shift=3.0)
    few = Recommended(cfg=1.0, shift=3.0, steps=4, solver="euler")
    found = load_checkpoint(tmp_path / "dit.safetensors")
    assert recommended_of(found.meta) == few
    assert found.meta["trained_on"] == ["32x32x8c", "32x32x9", "48x32x17"]
    assert all(torch.equal(found.dit_state[name], weight) for name, weight in student.items())
    if lora:
        made = merge(teacher, tmp_path / "lora.safetensors")
        assert all(torch.allclose(made.dit_state[name], weight, atol=1e-6) for name, weight in student.items())
        said = json.loads(read_tensors(tmp_path / "lora.safetensors")[1]["spacetime_lora"])
        assert said["recommended"] == few.entry()


@pytest.mark.parametrize(
    ("changes", "of_teacher", "says"),
    [
        ({"packing": True}, {}, "leave out --packing"),
        ({"alignment": 0.5}, {}, "leave out --alignment"),
        ({"route": 0.5}, {}, "leave out --route"),
        ({"student_steps": 0}, {}, "--student-steps is 1 to 64, not 0"),
        ({"substeps": 300}, {}, "--substeps is 1 to 256, not 300"),
        ({}, {"prediction": "eps"}, "choose a teacher that predicts velocity"),
        ({}, {"learned_variance": True}, "predicts its own variance"),
    ],
)
def test_what_cannot_be_distilled_is_refused(cache, tmp_path, changes, of_teacher, says):  # noqa: F811
    config = replace(PRESETS["test"], **of_teacher)
    with pytest.raises(ValueError, match=says):
        distil(cache, tmp_path, Checkpoint(config, DiT(config).initialise().state_dict()), **changes)
    with pytest.raises(ValueError, match="holds no DiT"):
        distil(cache, tmp_path, Checkpoint())
