"""The Node that Playwright brings along."""

import pytest


@pytest.fixture(scope="session")
def node() -> str:
    """The path of a Node."""
    driver = pytest.importorskip("playwright._impl._driver", reason="playwright is not installed: python3 run.py setup")
    return str(driver.compute_driver_executable()[0])
