"""The user's own list of language models: a JSON file and environment variables. Keys stay here.

The file: {"endpoints": {"name": {"url": ..., "model": ..., "key": ... or "key_env": "NAME OF A VARIABLE", "timeout":
..., "attempts": ..., "max_tokens": ..., "temperature": ..., "small": true, "options": {...}}}, "allowed_urls": [...]}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..files import read_json
from ..remedies import cut
from .hiding import plain_address
from .language_models import Endpoint, check_address

FILE = "spacetime_language_models.json"
ENVIRONMENT = {"url": "SPACETIME_LLM_URL", "model": "SPACETIME_LLM_MODEL", "key": "SPACETIME_LLM_KEY"}
EXAMPLE = '{"endpoints": {"ollama": {"url": "http://127.0.0.1:11434/v1", "model": "qwen2.5:3b"}}}'
FIELDS: dict[str, type | tuple[type, ...]] = {
    "url": str,
    "model": str,
    "key": str,
    "key_env": str,
    "timeout": (int, float),
    "attempts": int,
    "backoff": (int, float),
    "max_tokens": int,
    "temperature": (int, float),
    "options": dict,
    "small": bool,
}


@dataclass(frozen=True)
class Configuration:
    """What the user has set up. endpoints: raw settings by name, with keys, so never print them."""

    path: Path
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    allowed: tuple[str, ...] = ()

    def endpoint(self, name: str, environ: Mapping[str, str] = os.environ) -> Endpoint:
        """A configured endpoint. ValueError that says where to write it down when there is none."""
        if name not in self.endpoints:
            known = f" (there: {cut(', '.join(self.endpoints), 200)})" if self.endpoints else ""
            raise ValueError(
                f"no endpoint '{cut(name, 60)}' is configured on this machine{known}: add it to {self.path}, {EXAMPLE}"
            )
        settings = dict(self.endpoints[name])
        variable = settings.pop("key_env", "")
        if variable:
            if not environ.get(variable):
                raise ValueError(
                    f"endpoint '{cut(name, 60)}' takes its key from the variable {variable}, which is not set"
                )
            settings["key"] = environ[variable]
        settings["key"] = settings.get("key", "").strip()
        try:
            return Endpoint(name=name, **settings)
        except ValueError as error:
            raise ValueError(f"{error}: mend it in {self.path}") from error

    def address(self, url: str, model: str = "") -> Endpoint:
        """An address that came with a workflow: only when the user's list allows it, and always without a key."""
        check_address(url)
        if not any(covers(one, url) for one in self.allowed):
            shown = plain_address(url)
            raise ValueError(
                f"{shown} was not called: workflows may only call addresses that you allow. If you trust it, add it to "
                f'"allowed_urls" in {self.path}, {{"allowed_urls": ["{shown}"]}}'
            )
        return Endpoint(name=urlsplit(url).hostname or "address", url=url, model=model)


def read_configuration(path: Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """The file, if there is one, and the endpoint "environment" when SPACETIME_LLM_URL is set."""
    loaded: Any = {}
    if path.is_file():
        loaded = read_json(path, limit=1_000_000, advice="mend it, or delete it")
    if not isinstance(loaded, dict) or not loaded.keys() <= {"endpoints", "allowed_urls"}:
        raise ValueError(f'{path} must be an object with "endpoints" and "allowed_urls" only: write ' + EXAMPLE)
    endpoints, allowed = loaded.get("endpoints", {}), loaded.get("allowed_urls", [])
    if not isinstance(endpoints, dict) or not isinstance(allowed, list):
        raise ValueError(f'in {path} "endpoints" must be an object and "allowed_urls" a list: write {EXAMPLE}')
    for name, settings in endpoints.items():
        _check_settings(path, name, settings)
    for url in allowed:
        check_address(str(url))
    endpoints = dict(endpoints)
    if environ.get(ENVIRONMENT["url"]):
        endpoints["environment"] = {key: environ[name] for key, name in ENVIRONMENT.items() if environ.get(name)}
    return Configuration(path, endpoints, tuple(map(str, allowed)))


def _check_settings(path: Path, name: str, settings: object) -> None:
    where = f"in {path} endpoint {cut(name, 40)!r}"
    if not isinstance(settings, dict) or not isinstance(settings.get("url"), str):
        raise ValueError(f'{where} has no "url": write {EXAMPLE}')
    for key, value in settings.items():
        if key not in FIELDS:
            raise ValueError(f"{where} has an unknown field {cut(key, 40)!r}; known: {', '.join(FIELDS)}")
        # bool is an int to Python, but no number to a person; the value may be a key, so it is not shown
        if not isinstance(value, FIELDS[key]) or (isinstance(value, bool) and FIELDS[key] is not bool):
            raise ValueError(f"{where} has a wrong {key!r}: {_wanted(FIELDS[key])} belongs there")


def _wanted(kind: type | tuple[type, ...]) -> str:
    named = {str: "a text", int: "a whole number", dict: "an object {...}", bool: "true or false"}
    return "a number" if isinstance(kind, tuple) else named[kind]


def covers(allowed: str, url: str) -> bool:
    """Whether an allowed address stands for this one: same scheme, host and port, and its path or one below it."""
    one, other = urlsplit(allowed), urlsplit(url)
    if (one.scheme, one.hostname, _port(allowed)) != (other.scheme, other.hostname, _port(url)):
        return False
    if re.search(r"%|\\|(?:^|/)\.{1,2}(?:/|$)", other.path):
        return False
    return (other.path.rstrip("/") + "/").startswith(one.path.rstrip("/") + "/")


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
