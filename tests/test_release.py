"""What is released holds what it should and nothing else, and all that it is made of is pinned."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def release():
    """The script behind `make release`, without running it."""
    sys.path.insert(0, str(ROOT / "release"))
    yield __import__("release")
    sys.path.remove(str(ROOT / "release"))


@pytest.fixture(scope="module")
def source(release, tmp_path_factory):
    """The tracked files of the last commit."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no checkout of git")
    return release.export(tmp_path_factory.mktemp("release") / "source")


def built(source: Path, kind: str) -> Path:
    pytest.importorskip("hatchling", reason="the build backend, hatchling, is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(source.parent / kind)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = (source.parent / kind).iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    return built(source, "wheel")


def test_wheel(release, source, wheel):
    assert release.check_wheel(wheel, source) > 50
    told = release.metadata(wheel)
    assert (told["Name"], told["Version"]) == (PYPROJECT["project"]["name"], PYPROJECT["project"]["version"])
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"conjure", f"conjure-{told['Version']}.dist-info"}


def test_source_distribution(release, source):
    assert release.check_sdist(built(source, "sdist"), source) > 100


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("conjure/models/default/vae/diffusion_pytorch_model.safetensors", None, "lacks: conjure/models/default/vae"),
        ("conjure/models/default/README.md", b"no attributions", "another content: conjure/models/default/README.md"),
        ("conjure/__pycache__/run.cpython-311.pyc", b"", "beyond the tracked files: conjure/__pycache__"),
        ("training/cache/captions.json", b"", "beyond the tracked files: training/cache"),
        ("conjure-0.1.0.dist-info/licenses/LICENSE", b"all rights reserved", "another licence"),
        ("conjure-0.1.0.dist-info/licenses/LICENSE", None, "describes itself by"),
    ],
)
def test_a_wheel_that_is_not_as_it_should_be(release, source, wheel, tmp_path, path, content, message):
    """Files that are missing (None), others than those of the repository, or too many."""
    other = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as good, zipfile.ZipFile(other, "w") as bad:
        held = {name: good.read(name) for name in good.namelist()} | {path: content}
        for name, kept in held.items():
            if kept is not None:
                bad.writestr(name, kept)
    with pytest.raises(SystemExit, match=message):
        release.check_wheel(other, source)


def test_large_files_that_are_not_there(release, source, tmp_path):
    """A checkout without them has pointers in their place, which are tracked all the same."""
    source = shutil.copytree(source, tmp_path / "source")
    for weights in source.rglob("*.safetensors"):
        weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SystemExit, match="bytes of weights; the large files of the checkout are not there"):
        release.check_wheel(built(source, "wheel"), source)


def test_what_is_not_locked(release, tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text(
        f"one==1.0 ; python_version > '3' \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\ntwo==2\n"
    )
    assert release.locked(lock) == {"one": ("1.0", {"a" * 64, "b" * 64}), "two": ("2", set())}
    assert release.against_lock({"one": ("1.0", "b" * 64), "conjure": ("0.1.0", "f" * 64)}, lock) == "hashes are those of PyPI"
    assert "but for one 1.0+cpu" in release.against_lock({"one": ("1.0+cpu", "c" * 64)}, lock)
    for installed, message in (("1.0", "which PyPI does not know"), ("1.1", "not locked so"), ("1.1+cpu", "not locked so")):
        with pytest.raises(SystemExit, match=message):
            release.against_lock({"one": (installed, "c" * 64)}, lock)
    with pytest.raises(SystemExit, match="three 3 was installed, but is not locked"):
        release.against_lock({"three": ("3", "c" * 64)}, lock)


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def test_every_package_is_pinned():
    """All that `make setup` brings along, as far as it is installed here, stands in constraints.txt with its version."""
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    left, seen, known = [(Requirement(one), "") for one in wanted], set(), pins()
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for of in ("", *requirement.extras):
            if (name, of) in seen:
                continue
            seen.add((name, of))
            try:
                installed = distribution(requirement.name)
            except PackageNotFoundError:
                continue
            assert known.get(name) == installed.version.partition("+")[0], name
            left += [(Requirement(one), of) for one in installed.requires or ()]
    assert len(seen) > 60


@pytest.mark.parametrize("name", ["tools.txt", "runtime.txt"])
def test_locks_are_complete_and_agree(release, name):
    known, locked = pins(), release.locked(ROOT / "release" / name)
    for package, (version, hashes) in locked.items():
        assert hashes, package
        assert known.get(package, version) == version, f"{package}: run make lock"
    asked = PYPROJECT["dependency-groups"]["release"] if name == "tools.txt" else PYPROJECT["project"]["dependencies"]
    for one in map(Requirement, asked):
        version, _ = locked[re.sub(r"[-_.]+", "-", one.name).lower()]
        assert version in one.specifier, f"{one}: run make lock"


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows(path):
    """Actions are pinned by commit with the version beside it; jobs get what they need and no secrets."""
    text = path.read_text()
    used = re.findall(r"uses: *(.*)", text)
    assert used
    for one in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one
    told = yaml.safe_load(text)
    assert told["permissions"] == {}
    assert "secrets" not in text
    for job in told["jobs"].values():
        checked_out = any(step.get("uses", "").startswith("actions/checkout@") for step in job["steps"])
        assert not checked_out or job["permissions"] == {"contents": "read"}, "what may sign or publish runs nothing of ours"
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            assert "${{" not in step.get("run", ""), "what comes from outside goes through the environment"
    versions: dict[str, tuple[str, str]] = {}
    for workflow in WORKFLOWS:
        for action, commit, version in re.findall(r"uses: *([\w./-]+)@(\w+) # (\S+)", workflow.read_text()):
            assert versions.setdefault(action, (commit, version)) == (commit, version)
