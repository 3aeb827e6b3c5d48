"""Settings of tiny networks of core's video models, as their constructors name them."""

from typing import Any

HUNYUAN: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 32,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 56, 56],
    "theta": 256,
    "patch_size": [1, 2, 2],
    "qkv_bias": True,
    "guidance_embed": True,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
COSMOS: dict[str, Any] = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "model_channels": 64,
    "num_blocks": 1,
    "num_heads": 1,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
    "rope_h_extrapolation_ratio": 1.0,
    "rope_w_extrapolation_ratio": 1.0,
    "rope_t_extrapolation_ratio": 2.0,
}
WAN: dict[str, Any] = {"dim": 128, "ffn_dim": 16, "num_heads": 1, "num_layers": 1}
KANDINSKY: dict[str, Any] = {
    "model_dim": 64,
    "ff_dim": 64,
    "time_dim": 32,
    "axes_dims": (16, 24, 24),
    "num_text_blocks": 1,
    "num_visual_blocks": 1,
    "visual_embed_dim": 132,
}
COG: dict[str, Any] = {
    "num_attention_heads": 1,
    "attention_head_dim": 64,
    "time_embed_dim": 32,
    "text_embed_dim": 32,
    "num_layers": 1,
    "use_rotary_positional_embeddings": True,
}
LTX2: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 16,
    "num_layers": 2,
    "caption_channels": 64,
    "cross_attention_dim": 64,
    "audio_cross_attention_dim": 32,
    "connector_attention_head_dim": 32,
    "connector_num_attention_heads": 2,
    "connector_num_layers": 1,
}
H3: dict[str, Any] = {
    "hidden_size": 64,
    "num_layers": 1,
    "token_refiner_num_layers": 1,
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "ffn_hidden_size": 64,
    "text_dim": 32,
    "timestep_input_dim": 32,
    "time_embed_hidden_size": 32,
    "time_embed_dim": 32,
}
