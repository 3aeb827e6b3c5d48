"""Node schemas that older hosts understand too."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

KNOWN = frozenset(field.name for field in fields(io.Schema))


def schema(**settings: Any) -> io.Schema:
    """io.Schema of these settings; those that this host does not know yet (search_aliases before 0.10) are left out."""
    return io.Schema(**{name: value for name, value in settings.items() if name in KNOWN})
