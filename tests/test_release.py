"""The distributions contain exactly the tracked files, and all dependencies are pinned."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def release():
    """The script of `make release`, imported but not run."""
    sys.path.insert(0, str(ROOT / "release"))
    yield import_module("release")
    sys.path.remove(str(ROOT / "release"))


@pytest.fixture(scope="module")
def checks(release):
    return import_module("distribution_checks")


@pytest.fixture(scope="module")
def source(release, tmp_path_factory):
    """The tracked files of the last commit."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    return release.export(tmp_path_factory.mktemp("release") / "source")


def build(source: Path, target: str) -> Path:
    """Build and return the wheel or the source distribution."""
    pytest.importorskip("hatchling", reason="the build backend, hatchling, is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(source.parent / target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = (source.parent / target).iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    return build(source, "wheel")


def test_wheel(checks, source, wheel):
    assert checks.check_wheel(wheel, source) > 50
    metadata = checks.read_metadata(wheel)
    assert (metadata["Name"], metadata["Version"]) == (PYPROJECT["project"]["name"], PYPROJECT["project"]["version"])
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.split("/")[0] for name in archive.namelist()}
    assert folders == {"conjure", f"conjure-{metadata['Version']}.dist-info"}


def test_source_distribution(checks, source):
    assert checks.check_sdist(build(source, "sdist"), source) > 100


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("conjure/models/default/vae/diffusion_pytorch_model.safetensors", None, "lacks: conjure/models/default/vae"),
        ("conjure/models/default/README.md", b"no attributions", "different content: conjure/models/default/README.md"),
        ("conjure/__pycache__/run.cpython-311.pyc", b"", "git does not track: conjure/__pycache__"),
        ("training/cache/captions.json", b"", "git does not track: training/cache"),
        ("conjure-0.1.0.dist-info/licenses/LICENSE", b"all rights reserved", "the licence in .* differs"),
        ("conjure-0.1.0.dist-info/licenses/LICENSE", None, "unexpected metadata files"),
    ],
)
def test_wheel_with_wrong_files_is_rejected(checks, source, wheel, tmp_path, path, content, message):
    """A file is missing (content None), differs from that of the repository, or is not tracked."""
    wrong_wheel = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as original, zipfile.ZipFile(wrong_wheel, "w") as modified:
        files = {name: original.read(name) for name in original.namelist()} | {path: content}
        for name, file_content in files.items():
            if file_content is not None:
                modified.writestr(name, file_content)
    with pytest.raises(SystemExit, match=message):
        checks.check_wheel(wrong_wheel, source)


def test_wheel_without_large_files_is_rejected(checks, source, tmp_path):
    """In a checkout without Git LFS, tracked pointer files replace the weights."""
    source = shutil.copytree(source, tmp_path / "source")
    for weights in source.rglob("*.safetensors"):
        weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SystemExit, match="bytes of weights; the large files are missing from the checkout"):
        checks.check_wheel(build(source, "wheel"), source)


def test_packages_that_are_not_locked_are_rejected(checks, tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text(
        f"one==1.0 ; python_version > '3' \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\ntwo==2\n"
    )
    assert checks.read_lock(lock) == {"one": ("1.0", {"a" * 64, "b" * 64}), "two": ("2", set())}
    installed = {"one": ("1.0", "b" * 64), "conjure": ("0.1.0", "f" * 64)}
    assert checks.compare_with_lock(installed, lock) == "all hashes are those of PyPI"
    assert "except for the local build one 1.0+cpu" in checks.compare_with_lock({"one": ("1.0+cpu", "c" * 64)}, lock)
    for version, message in (("1.0", "not on PyPI"), ("1.1", "does not lock"), ("1.1+cpu", "does not lock")):
        with pytest.raises(SystemExit, match=message):
            checks.compare_with_lock({"one": (version, "c" * 64)}, lock)
    with pytest.raises(SystemExit, match="three 3 was installed, but lock.txt does not lock this version"):
        checks.compare_with_lock({"three": ("3", "c" * 64)}, lock)


def pinned_versions() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {normalize(name): version for name, version in (line.split("==") for line in lines)}


def normalize(package_name: str) -> str:
    return re.sub(r"[-_.]+", "-", package_name).lower()


def test_every_installed_package_is_pinned():
    """constraints.txt has the version of each direct and indirect dependency that is installed here."""
    project = PYPROJECT["project"]
    dependencies = [
        *project["dependencies"],
        *(dependency for extra in project["optional-dependencies"].values() for dependency in extra),
    ]
    queue = [(Requirement(dependency), "") for dependency in dependencies]
    visited, pinned = set(), pinned_versions()
    while queue:
        requirement, parent_extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        name = normalize(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in visited:
                continue
            visited.add((name, extra))
            try:
                installed = distribution(requirement.name)
            except PackageNotFoundError:
                continue
            assert pinned.get(name) == installed.version.partition("+")[0], name
            queue += [(Requirement(dependency), extra) for dependency in installed.requires or ()]
    assert len(visited) > 60


@pytest.mark.parametrize("name", ["tools.txt", "runtime.txt"])
def test_locks_are_complete_and_agree_with_constraints(checks, name):
    pinned, locked = pinned_versions(), checks.read_lock(ROOT / "release" / name)
    for package, (version, hashes) in locked.items():
        assert hashes, package
        assert pinned.get(package, version) == version, f"{package}: run make lock"
    required = PYPROJECT["dependency-groups"]["release"] if name == "tools.txt" else PYPROJECT["project"]["dependencies"]
    for requirement in map(Requirement, required):
        version, _ = locked[normalize(requirement.name)]
        assert version in requirement.specifier, f"{requirement}: run make lock"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows(path):
    """Actions are pinned by commit, with the version in a comment; jobs have minimal permissions and no secrets."""
    text = path.read_text()
    actions = re.findall(r"uses: *(.*)", text)
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert "secrets" not in text
    for job in workflow["jobs"].values():
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert not checkouts or job["permissions"] == {"contents": "read"}, "jobs that sign or publish must not run our code"
        for step in checkouts:
            assert step["with"]["persist-credentials"] is False
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "expressions must be passed through environment variables"


def test_workflows_pin_the_same_versions():
    versions: dict[str, tuple[str, str]] = {}
    for path in WORKFLOWS:
        for action, commit, version in re.findall(r"uses: *([\w./-]+)@(\w+) # (\S+)", path.read_text()):
            assert versions.setdefault(action, (commit, version)) == (commit, version)
