"""Checks of the built distributions and of what was installed. Each raises SystemExit at the first failure."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Mapping
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

REQUIRED_FILES = (  # of the package; the comparison with git does not show that git tracks them
    "conjure/models/default/README.md",  # has the attributions that the licences of the training data require
    "conjure/models/default/transformer/diffusion_pytorch_model.safetensors",
    "conjure/models/default/vae/diffusion_pytorch_model.safetensors",
    "conjure/py.typed",
    "conjure/explanation/templates/explanation.html",
)
MIN_WEIGHT_BYTES = 10_000_000  # of safetensors; in a checkout without the large files, pointers replace them


def check_wheel(wheel: Path, source: Path) -> int:
    """Check that `wheel` contains exactly the package of `source`, its metadata and the licence.

    Returns:
        The number of files.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/"
    metadata_files = {name.removeprefix(info) for name in files if name.startswith(info)}
    if metadata_files != {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}:
        raise SystemExit(f"{wheel.name} has unexpected metadata files: {', '.join(sorted(metadata_files))}")
    if files[f"{info}licenses/LICENSE"] != (source / "LICENSE").read_bytes():
        raise SystemExit(f"the licence in {wheel.name} differs from that of the repository")
    package = {name: content for name, content in files.items() if not name.startswith(info)}
    _check_same_files(wheel.name, package, _read_tree(source / "src"))
    if missing := [name for name in REQUIRED_FILES if name not in files]:
        raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}")
    weights = sum(len(content) for name, content in files.items() if name.endswith(".safetensors"))
    if weights < MIN_WEIGHT_BYTES:
        raise SystemExit(f"{wheel.name} has only {weights:,} bytes of weights; the large files are missing from the checkout")
    return len(files)


def check_sdist(sdist: Path, source: Path) -> int:
    """Check that `sdist` contains exactly the files of `source`, and its metadata.

    Returns:
        The number of files.
    """
    prefix = sdist.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(sdist) as tar:
        files = {
            member.name.removeprefix(prefix): tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
            if member.isfile()
        }
    if files.pop("PKG-INFO", None) is None:
        raise SystemExit(f"{sdist.name} has no metadata")
    _check_same_files(sdist.name, files, _read_tree(source))
    return len(files) + 1


def _read_tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _check_same_files(name: str, actual: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
    for problem, paths in (
        ("lacks", expected.keys() - actual.keys()),
        ("has files that git does not track", actual.keys() - expected.keys()),
        (
            "has files with different content",
            {path for path in actual.keys() & expected.keys() if actual[path] != expected[path]},
        ),
    ):
        if paths:
            raise SystemExit(f"{name} {problem}: {', '.join(sorted(paths)[:10])}")


def read_metadata(wheel: Path) -> Message:
    """Return the metadata of `wheel`, such as its name and version."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]*\.dist-info/METADATA", name))
        return HeaderParser().parsestr(archive.read(name).decode())


def read_lock(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Return the version and the SHA-256 hashes of each package in a lock file."""
    packages: dict[str, tuple[str, set[str]]] = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)", entry):
            packages[match[1]] = (match[2], set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)))
    return packages


def compare_with_lock(installed: Mapping[str, tuple[str, str]], lock: Path) -> str:
    """Check that the installed packages are locked with their hashes.

    A build with a local version, such as +cpu, is never on PyPI. Its hash is not checked, and the returned message names it.

    Args:
        installed: Version and SHA-256 of each package, by name.
        lock: The lock file.

    Returns:
        A message that says which hashes were verified.
    """
    locked, local_builds = read_lock(lock), []
    for name, (version, sha256) in installed.items():
        if name == "conjure":
            continue
        if name not in locked or locked[name][0] != version.partition("+")[0]:
            raise SystemExit(f"{name} {version} was installed, but {lock.name} does not lock this version; run make lock")
        if sha256 not in locked[name][1]:
            if "+" not in version:
                raise SystemExit(f"{name} {version} was installed from a file that is not on PyPI (SHA-256 {sha256})")
            local_builds.append(f"{name} {version}")
    return "all hashes are those of PyPI" + (f", except for the local build {', '.join(local_builds)}" if local_builds else "")
