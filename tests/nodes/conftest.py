"""The real ComfyUI in this process, on the CPU. Tests that ask for it are skipped where it has not been fetched."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from comfyui_spacetime.tools.in_process import load_host


@pytest.fixture(scope="session")
def comfy_host() -> None:
    """Ask for this to use `import comfy...`, `comfy_api`, `comfy_extras` and our nodes."""
    if not load_host():
        pytest.skip("ComfyUI has not been fetched: python3 run.py setup")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`sampler_name` runs over core's own list of samplers."""
    if "sampler_name" not in metafunc.fixturenames:
        return
    if load_host():
        import comfy.samplers

        metafunc.parametrize("sampler_name", comfy.samplers.SAMPLER_NAMES)
    else:
        metafunc.parametrize("sampler_name", [pytest.param("", marks=pytest.mark.skip(reason="ComfyUI is not there"))])


@pytest.fixture(autouse=True)
def no_copy_counts_as_loaded():
    """A copy of a model that a test has patched and let go, while the model itself stays for the next test.

    Core takes it for a leak and collects garbage whenever it loads something, which takes a second in a process that
    has run thousands of tests.
    """
    yield
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        management.current_loaded_models[:] = [one for one in management.current_loaded_models if not one.is_dead()]


@pytest.fixture(scope="session")
def tiny_checkpoint(comfy_host, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a small random checkpoint of ours in a folder that the host lists."""
    import folder_paths
    import torch

    from comfyui_spacetime.models.checkpoints import Checkpoint, save_checkpoint
    from comfyui_spacetime.models.transformer.config import PRESETS as DITS
    from comfyui_spacetime.models.transformer.dit import DiT
    from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
    from comfyui_spacetime.models.vae.autoencoder import VideoVAE

    torch.manual_seed(0)
    dit, vae = DiT(DITS["test"]), VideoVAE(VAES["test"])
    for network in (dit.initialise(), vae):
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.1 if weight.ndim > 1 else 0.3)
    folder = tmp_path_factory.mktemp("checkpoints")
    folder_paths.add_model_folder_path("checkpoints", str(folder))
    checkpoint = Checkpoint(DITS["test"], dit.state_dict(), VAES["test"], vae.state_dict(), {"note": "random"})
    save_checkpoint(folder / "tiny.safetensors", checkpoint)
    return "tiny.safetensors"


@pytest.fixture(scope="session")
def tiny_objects(tiny_checkpoint: str) -> tuple:
    """(MODEL, CLIP, VAE) of the small checkpoint, in fp32, through the real loader node."""
    from comfyui_spacetime.nodes.loaders import LoadCheckpoint

    return LoadCheckpoint.execute(tiny_checkpoint, "fp32").result


@pytest.fixture(scope="session")
def core_node(comfy_host) -> Callable[..., Any]:
    """Run a node of core by the names of its inputs, whichever of them the release at hand has.

    What it has besides gets its own default, as in the editor; what it does not know is left out. A node that takes
    lists is given lists.
    """

    def run(node: Any, **given: Any) -> Any:
        declared = node.define_schema()
        inputs = {}
        for one in declared.inputs:
            options = getattr(one, "options", None)
            default = getattr(one, "default", None) or (options[0] if options else getattr(one, "default", None))
            if one.id in given:
                inputs[one.id] = given[one.id]
            elif default is not None:
                inputs[one.id] = [default] if declared.is_input_list else default
        return node.execute(**inputs)

    return run


@pytest.fixture
def one_thread():
    """Small tensors: threads would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def tiny_models_go_first():
    """Models must be gone before the interpreter takes core's modules apart, or their end is noisy."""
    yield
    from comfyui_spacetime.tools.bench import families, tiny_models

    tiny_models.model.cache_clear()
    families.family_model.cache_clear()
