"""What pyproject.toml cannot say: all packages of the checkout, under the name of the pack."""

from setuptools import find_packages, setup

FOLDERS = ["models", "nodes", "tools"]
FOUND = find_packages(include=[*FOLDERS, *(f"{folder}.*" for folder in FOLDERS)])

setup(packages=["comfyui_spacetime", *(f"comfyui_spacetime.{name}" for name in FOUND)])
