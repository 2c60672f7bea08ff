"""Fixtures of downloads."""

from __future__ import annotations

import pytest
from huggingface_hub import constants

import fake_hub
from conjure.io import logging as logging_module


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the Hub, with an empty cache."""
    with fake_hub.serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def lines(monkeypatch):
    """The lines that downloads report."""
    reported: list[str] = []
    monkeypatch.setattr(logging_module, "_reporter", reported.append)
    return reported
