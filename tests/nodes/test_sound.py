"""The sound of a video: through the VAE and back, and what is said where it cannot go along."""

import pytest
import torch

from comfyui_spacetime.tests.media_files import counting, encode


@pytest.fixture
def said(comfy_host, tmp_path, monkeypatch):
    import folder_paths

    from comfyui_spacetime.nodes.host import messages

    texts: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: texts.append(text))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return texts


def encoded(path, vae):
    from comfyui_spacetime.nodes.host.vae.frames import video_from_file
    from comfyui_spacetime.nodes.latents import VAEEncode

    return VAEEncode.execute(vae, video_from_file(path), 0).result


@pytest.mark.parametrize("output", ["images and video", "video file"])
def test_sound_survives_the_vae(tmp_path, said, tiny_objects, output):
    from comfyui_spacetime.nodes.latents import VAEDecode

    latent, fps, count = encoded(encode(tmp_path / "a.mkv", counting(33, 32, 32), sound=16000), tiny_objects[2])
    assert "its sound goes along" in said[-1]
    _, video = VAEDecode.execute(tiny_objects[2], latent, fps, output).result
    assert said[-1] == "with the sound of the source"
    audio = video.get_components().audio
    assert audio["sample_rate"] == 16000
    assert audio["waveform"].shape[:2] == (1, 2)
    assert audio["waveform"].shape[2] / 16000 == pytest.approx(count / fps, abs=0.1)
    assert float(audio["waveform"][0, 0].abs().max()) > 0.4
    saved = tmp_path / "saved.mp4"
    video.save_to(str(saved))
    import av

    with av.open(str(saved)) as container:
        assert len(container.streams.audio) == 1


def test_a_video_in_memory_brings_its_sound(said, tiny_objects):
    from comfy_api.latest import InputImpl, Types

    from comfyui_spacetime.nodes.latents import VAEDecode, VAEEncode

    audio = {"waveform": torch.rand(1, 1, 8000), "sample_rate": 8000}
    video = InputImpl.VideoFromComponents(
        Types.VideoComponents(images=torch.rand(9, 32, 32, 3), frame_rate=12, audio=audio)
    )
    latent, fps, _ = VAEEncode.execute(tiny_objects[2], video, 0).result
    _, made = VAEDecode.execute(tiny_objects[2], latent, fps, "images and video").result
    torch.testing.assert_close(made.get_components().audio["waveform"], audio["waveform"][..., : round(9 / 12 * 8000)])


def test_where_frames_lose_their_times_the_sound_is_left_out_and_that_is_said(tmp_path, said, tiny_objects):
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.latents import VAEDecode

    latent, fps, _ = encoded(encode(tmp_path / "a.mkv", counting(17, 32, 32), sound=16000), tiny_objects[2])
    changed = {
        "fps is 24": (latent, 2 * fps),
        "not those that it was heard with": ({**latent, "samples": latent["samples"][:, :, :3]}, fps),
        "a loop has no beginning": ({**latent, sockets.LOOP: True}, fps),
    }
    for reason, (given, rate) in changed.items():
        _, video = VAEDecode.execute(tiny_objects[2], given, rate, "images and video").result
        assert said[-1].startswith("the sound of the source is left out: ")
        assert reason in said[-1]
        assert video.get_components().audio is None


def test_tasks_that_keep_the_time_keep_the_sound(tmp_path, said, tiny_objects):
    """Restyle, fill and outpaint: found by what they take, so that new ones are covered."""
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.host.vae.sound import kept
    from comfyui_spacetime.nodes.tasks import in_space

    latent, fps, _ = encoded(encode(tmp_path / "a.mkv", counting(17, 32, 32), sound=16000), tiny_objects[2])
    tried = 0
    for node in in_space.NODES:
        schema = node.define_schema()
        names = [one.id for one in schema.inputs if str(one.get_io_type()) == "LATENT"]
        if len(names) != 1:
            continue
        given = {one.id: one.default for one in schema.inputs if not one.optional and hasattr(one, "default")}
        given |= {one.id: torch.ones(1, 32, 32) for one in schema.inputs if str(one.get_io_type()) == "MASK"}
        given |= {one.id: tiny_objects[0] for one in schema.inputs if str(one.get_io_type()) == "MODEL"}
        given |= {one.id: 16 for one in schema.inputs if one.id == "right"}
        given[names[0]] = latent
        made = next(one for one in node.execute(**given).result if isinstance(one, dict) and "samples" in one)
        assert sockets.SOUND in made, node.__name__
        assert kept(made, made["samples"], fps)[0] is not None
        tried += 1
    assert tried >= 2
