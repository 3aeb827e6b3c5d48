"""A causal video VAE. Encoder and decoder are each a linear map between a 4 x 8 x 8 block of pixels and one latent
(which training starts at the principal components of the data) plus a small residual network that adds the rest.

Time: frame 0 counts as a block of four equal frames, so F = 1 + 4k frames give T = 1 + k latents, an image is a video
of one frame, and encoding or decoding in pieces equals doing it at once. A cyclic video has F = 4k frames and T = k
latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from ..geometry import OURS
from ..headers import Depth, Width, check_fields
from .layers import CausalConv1d, ChannelNorm, ResBlock, SpatialConv, TimeCache, depth_to_space, space_to_depth

TIME, SPACE = OURS.time, OURS.space
BLOCK = (TIME, SPACE, SPACE)
PIECE = 2  # latent frames at a time: as fast as more on a CPU, and memory is flat from the first second on
PIECE_AREA = PIECE * 64 * 64  # above 512 x 512 pixels one frame at a time


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Widths and depths from the coarse (latent) scale to the fine one."""

    latent_channels: Width
    encoder_widths: tuple[Width, Width]  # at 4 x 8 x 8 and at 2 x 4 x 4 pixels per position
    encoder_depths: tuple[Depth, Depth]
    decoder_widths: tuple[Width, Width, Width]  # at 4 x 8 x 8, 2 x 4 x 4 and 1 x 2 x 2
    decoder_depths: tuple[Depth, Depth, Depth]

    def __post_init__(self) -> None:
        check_fields(self)


PRESETS: dict[str, VAEConfig] = {
    "test": VAEConfig(
        latent_channels=16,
        encoder_widths=(16, 16),
        encoder_depths=(1, 1),
        decoder_widths=(16, 16, 8),
        decoder_depths=(1, 1, 1),
    ),
    "toy": VAEConfig(
        latent_channels=16,
        encoder_widths=(192, 96),
        encoder_depths=(2, 2),
        decoder_widths=(192, 96, 32),
        decoder_depths=(3, 2, 2),
    ),
    "mini": VAEConfig(
        latent_channels=16,
        encoder_widths=(256, 128),
        encoder_depths=(3, 2),
        decoder_widths=(256, 96, 32),
        decoder_depths=(3, 3, 2),
    ),
    "base": VAEConfig(
        latent_channels=16,
        encoder_widths=(512, 256),
        encoder_depths=(4, 4),
        decoder_widths=(512, 256, 128),
        decoder_depths=(4, 4, 4),
    ),
}


class Encoder(nn.Module):
    """Blocks of pixels -> mean and log variance of the latents."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        (coarse, fine), (coarse_depth, fine_depth) = config.encoder_widths, config.encoder_depths
        self.linear = nn.Linear(3 * TIME * SPACE * SPACE, config.latent_channels)
        self.conv_in = SpatialConv(3 * 2 * 4 * 4, fine)
        self.fine = nn.ModuleList(ResBlock(fine) for _ in range(fine_depth))
        self.down = nn.Linear(fine * 8, coarse)
        self.coarse = nn.ModuleList(ResBlock(coarse) for _ in range(coarse_depth))
        self.norm_out = ChannelNorm(coarse)
        self.conv_out = CausalConv1d(coarse, 2 * config.latent_channels)
        nn.init.zeros_(self.conv_out.weight)  # a new encoder is its linear part, and its variance is 1
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, video: Tensor, cache: TimeCache) -> tuple[Tensor, Tensor]:
        x = self.conv_in(space_to_depth(video, (2, 4, 4)))  # (B, F/2, H/4, W/4, fine)
        for block in self.fine:
            x = block(x, cache)
        x = self.down(space_to_depth(x, (2, 2, 2)))  # (B, T, H/8, W/8, coarse)
        for block in self.coarse:
            x = block(x, cache)
        mean, logvar = self.conv_out(torch.nn.functional.silu(self.norm_out(x)), cache).chunk(2, dim=-1)
        return self.linear(space_to_depth(video, BLOCK)) + mean, logvar


class Decoder(nn.Module):
    """Latents -> blocks of pixels."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        coarse, middle, fine = config.decoder_widths
        self.linear = nn.Linear(config.latent_channels, 3 * TIME * SPACE * SPACE)
        self.conv_in = CausalConv1d(config.latent_channels, coarse)
        self.coarse = nn.ModuleList(ResBlock(coarse) for _ in range(config.decoder_depths[0]))
        self.up1 = nn.Linear(coarse, middle * 8)
        self.middle = nn.ModuleList(ResBlock(middle) for _ in range(config.decoder_depths[1]))
        self.up2 = nn.Linear(middle, fine * 8)
        self.fine = nn.ModuleList(ResBlock(fine) for _ in range(config.decoder_depths[2]))
        self.norm_out = ChannelNorm(fine)
        self.conv_out = SpatialConv(fine, 3 * 2 * 2)
        nn.init.zeros_(self.conv_out.weight)  # a new decoder is its linear part too
        if self.conv_out.bias is not None:
            nn.init.zeros_(self.conv_out.bias)

    def forward(self, latents: Tensor, cache: TimeCache) -> Tensor:
        x = self.conv_in(latents, cache)  # (B, T, H/8, W/8, coarse)
        for block in self.coarse:
            x = block(x, cache)
        x = depth_to_space(self.up1(x), (2, 2, 2))
        for block in self.middle:
            x = block(x, cache)
        x = depth_to_space(self.up2(x), (2, 2, 2))  # (B, 4T, H/2, W/2, fine)
        for block in self.fine:
            x = block(x, cache)
        detail = depth_to_space(self.conv_out(torch.nn.functional.silu(self.norm_out(x))), (1, 2, 2))
        return depth_to_space(self.linear(latents), BLOCK) + detail  # (B, 4T, H, W, 3)


class VideoVAE(nn.Module):
    """The autoencoder. Latents going in and out have mean 0 and deviation 1 per channel over the training data."""

    temporal_compression, spatial_compression = TIME, SPACE
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    # -- pieces: what training and streaming share ---------------------------------------------------------------------

    def posterior(self, video: Tensor, cache: TimeCache) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, T, H, W, C), not normalised, of channel-last pixels (B, 4T, H, W, 3)."""
        mean, logvar = self.encoder(video, cache)
        return mean, logvar

    def normalise(self, latents: Tensor) -> Tensor:
        """Channel-last latents as the encoder gives them -> mean 0, deviation 1."""
        return (latents - self.latent_mean.to(latents)) / self.latent_std.to(latents)

    def denormalise(self, latents: Tensor) -> Tensor:
        """The inverse of normalise."""
        return latents * self.latent_std.to(latents) + self.latent_mean.to(latents)

    # -- whole videos ------------------------------------------------------------------------------------------------

    def encode(self, video: Tensor, *, cyclic: bool = False) -> Tensor:
        """Pixels (B, 3, F, H, W) in [-1, 1] -> latents (B, C, T, H/8, W/8).

        F = 1 + 4k gives T = 1 + k; with cyclic (a loop) F = 4k gives T = k. ValueError for other sizes.
        """
        if cyclic:
            check_pixels(video, cyclic=True)
            return self._encode_piece(video, TimeCache(cyclic=True))
        return torch.cat(list(self.encode_stream([video])), dim=2)

    def decode(self, latents: Tensor, *, cyclic: bool = False) -> Tensor:
        """Latents (B, C, T, H, W) -> pixels (B, 3, 1 + 4(T-1), 8H, 8W), or (B, 3, 4T, 8H, 8W) with cyclic."""
        if cyclic:
            return self._decode_piece(latents, TimeCache(cyclic=True))
        return self._joined(latents)

    def _joined(self, latents: Tensor) -> Tensor:
        """Decoded pixels, copied from their pieces as they come: the whole video is in memory once."""
        out: Tensor | None = None
        done = 0
        for pixels in self.decode_stream([latents]):
            if out is None:
                out = pixels.new_empty(len(pixels), 3, *OURS.pixel_size(latents.shape))
            out[:, :, done : done + pixels.shape[2]] = pixels
            done += pixels.shape[2]
        assert out is not None  # a split gives one piece at least
        return out

    # -- pieces of a long video, memory flat in its length -------------------------------------------------------------

    def encode_stream(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pieces of pixels (B, 3, f, H, W), of any lengths that add up to 1 + 4k -> pieces of latents."""
        cache, rest, count = TimeCache(), None, 0
        for given in frames:
            count += given.shape[2]
            if rest is None:
                check_pixels(given)
                rest = given[:, :, :1].expand(-1, -1, TIME - 1, -1, -1)  # frame 0 counts four times
            length = TIME * piece_length(given.shape[3] // SPACE, given.shape[4] // SPACE)
            for piece in given.split(length, dim=2):  # joined one by one, so that a long piece is not copied whole
                rest = torch.cat([rest, piece], dim=2) if rest.shape[2] else piece
                ready = rest.shape[2] - rest.shape[2] % TIME
                for part in rest[:, :, :ready].split(length, dim=2):
                    if part.shape[2]:
                        yield self._encode_piece(part, cache)
                rest = rest[:, :, ready:].clone()
        if rest is None or rest.shape[2]:
            fitting = max(1, OURS.fitting(count))
            raise ValueError(f"a video to encode needs 1 + 4k frames, got {count}: trim it to {fitting}")

    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pieces of latents (B, C, t, H, W) -> pieces of pixels (B, 3, f, 8H, 8W)."""
        cache, first = TimeCache(), True
        for piece in latents:
            for part in piece.split(piece_length(*piece.shape[3:]), dim=2):
                pixels = self._decode_piece(part, cache)
                yield pixels[:, :, TIME - 1 :] if first else pixels
                first = False

    def _encode_piece(self, video: Tensor, cache: TimeCache) -> Tensor:
        mean, _ = self.posterior(rearrange(video, "b c f h w -> b f h w c"), cache)
        return rearrange(self.normalise(mean), "b t h w c -> b c t h w")

    def _decode_piece(self, latents: Tensor, cache: TimeCache) -> Tensor:
        pixels = self.decoder(self.denormalise(rearrange(latents, "b c t h w -> b t h w c")), cache)
        return rearrange(pixels, "b f h w c -> b c f h w")


def check_pixels(video: Tensor, *, cyclic: bool = False) -> None:
    """ValueError unless pixels are (B, 3, F, H, W) with sides that the VAE can take."""
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"the VAE wants pixels (B, 3, F, H, W), got {tuple(video.shape)}")
    frames, height, width = video.shape[2:]
    if height % SPACE or width % SPACE:
        raise ValueError(
            f"the VAE wants sides that are multiples of {SPACE}, got {width} x {height}: resize or crop first"
        )
    if cyclic and frames % TIME:
        raise ValueError(f"a loop to encode needs 4k frames, got {frames}: trim it to {frames - frames % TIME}")


def piece_length(height: int, width: int) -> int:
    """How many latent frames of this size to decode or encode at a time."""
    return max(1, min(PIECE, PIECE_AREA // (height * width)))


def fingerprint(vae: VideoVAE) -> str:
    """Eight letters that change with the encoder's weights and statistics, the same in bf16 as in fp32."""
    return encoder_mark(vae.state_dict())


def encoder_mark(state: Mapping[str, Tensor]) -> str:
    """The fingerprint of a VAE with these weights: of what makes its latents, all but the decoder."""
    return weights_mark({name: value for name, value in state.items() if not name.startswith("decoder.")})


def weights_mark(state: Mapping[str, Tensor]) -> str:
    """Eight letters that change with weights, the same in bf16 as in fp32."""
    digest = hashlib.sha256()
    for _, value in sorted(state.items()):
        digest.update(value.bfloat16().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]
