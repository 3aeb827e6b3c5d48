"""Spacetime: the Sora recipe as a kit of parts for ComfyUI."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    """Give ComfyUI the pack's nodes; the host is imported only when it asks."""
    from .nodes import SpacetimeExtension

    return SpacetimeExtension()
