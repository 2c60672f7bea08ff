"""The version of the package, with and without its metadata."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import conjure
from conjure.io import version as version_module


def test_sources_that_are_not_installed_have_an_unknown_version(monkeypatch, default_process):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version_module, "version", missing)
    assert version_module.package_version() == "0+unknown"
    estimate = conjure.distance(default_process.set(steps=1), "sun", "moon", samples=1)
    assert estimate.distance > 0
