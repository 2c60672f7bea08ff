"""Build the release of the last commit, and check it: `make release`. Nothing is published.

The folder `dist/` then holds the wheel, the source distribution, a bill of materials (CycloneDX) of the wheel and its
dependencies, and the SHA-256 of each file. The script checks the following, and exits at the first failure:

- The wheel and the source distribution are built twice, from the tracked files only. Both builds have the same bytes.
- They contain all tracked files, unchanged, and no others.
- In an empty environment without a network, the wheel compares two texts with the model that it contains.
- The packages that were installed with the wheel are those that `release/runtime.txt` locks.

The script needs only the standard library. The build tools are installed into a temporary environment; pip checks each of their
files against the hashes in `release/tools.txt`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distribution_checks import check_sdist, check_wheel, compare_with_lock, read_metadata

ROOT = Path(__file__).parent.parent
TEXTS = ("snow leopard", "bengal tiger")
VALIDATE_BILL = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(problem) if problem else 0)
"""


def main() -> None:
    """Write `dist/`, or exit with a message that says what failed."""
    os.environ.pop("PYTHONPATH", None)
    commit, timestamp = (_git("log", "-1", f"--format={field}").strip() for field in ("%H", "%ct"))
    os.environ["SOURCE_DATE_EPOCH"] = timestamp
    _print(f"commit {commit[:12]} of {time.strftime('%F %T', time.gmtime(int(timestamp)))} UTC")
    if changes := _git("status", "--porcelain"):
        _print(f"warning: {len(changes.splitlines())} uncommitted changes are not part of the release")
    with tempfile.TemporaryDirectory(prefix="conjure-release-") as name:
        folder = Path(name)
        source = export(folder / "source")
        tools = _create_environment(folder / "tools", "--require-hashes", "--requirement", str(source / "release" / "tools.txt"))
        distributions = _build(tools, source, folder / "first")
        _check_reproducible(distributions, _build(tools, source, folder / "second"))
        sdist, wheel = distributions
        file_counts = check_sdist(sdist, source), check_wheel(wheel, source)
        _run(tools, "-m", "twine", "check", "--strict", *map(str, distributions))
        for path, count in zip(distributions, file_counts, strict=True):
            _print(f"{path.name}: {count} files, {path.stat().st_size / 1e6:.1f} MB, reproducible")
        version = read_metadata(wheel)["Version"]
        python, installed = _install(tools, folder / "empty", wheel, source)
        lock_message = compare_with_lock(installed, source / "release" / "runtime.txt")
        _print(f"{len(installed)} packages in an empty environment; {lock_message}")
        _print(_check_installed_command(python, version, folder / "home"))
        bill = folder / f"conjure-{version}.cdx.json"
        bill.write_text(json.dumps(_bill_of_materials(tools, python, installed, source), indent=1) + "\n")
        _run(tools, "-c", VALIDATE_BILL, str(bill))
        _write_dist([*distributions, bill])


def export(folder: Path) -> Path:
    """Write the tracked files of the last commit into `folder`, and return it."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _create_environment(folder: Path, *pip_arguments: str) -> Path:
    """Create an environment in `folder`, install into it with pip, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pip_arguments)
    return python


def _build(tools: Path, source: Path, folder: Path) -> tuple[Path, Path]:
    """Build and return the source distribution, and the wheel, which is built from the source distribution."""
    _run(tools, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def _check_reproducible(first: tuple[Path, Path], second: tuple[Path, Path]) -> None:
    different = [path.name for path in first if path.read_bytes() != (second[0].parent / path.name).read_bytes()]
    if different:
        raise SystemExit(f"two builds of {', '.join(different)} differ")


def _install(tools: Path, folder: Path, wheel: Path, source: Path) -> tuple[Path, dict[str, tuple[str, str]]]:
    """Install `wheel` and its dependencies into an environment without pip.

    Returns:
        The Python of the environment, and the version and SHA-256 of each package, by name.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python, report = folder / "bin" / "python", folder / "report.json"
    _run(tools, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet",
         "--constraint", str(source / "constraints.txt"), "--report", str(report), str(wheel))  # fmt: skip
    packages = json.loads(report.read_text())["install"]
    report.unlink()
    return python, {
        _normalize(package["metadata"]["name"]): (
            package["metadata"]["version"],
            package["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for package in packages
    }


def _normalize(package_name: str) -> str:
    return re.sub(r"[-_.]+", "-", package_name).lower()


def _check_installed_command(python: Path, version: str, home: Path) -> str:
    """Compare two texts with the installed command, offline and with an empty home folder.

    Returns:
        A message with the distance and the run time.
    """
    home.mkdir()
    isolation, prefix, environment = _disable_network()
    environment |= {"HOME": str(home), "PATH": os.environ["PATH"]}
    command = [*prefix, str(python.parent / "conjure"), "compare", *TEXTS, "--json"]
    start = time.perf_counter()
    process = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=3600)
    if process.returncode or process.stderr:
        raise SystemExit(f"the installed command exited with {process.returncode}: {process.stderr}")
    result = json.loads(process.stdout)
    if (result["version"], result["process"]["model"], result["texts"]) != (version, "default", list(TEXTS)):
        raise SystemExit(f"the installed command reported another version, model or texts: {process.stdout[:500]}")
    distance, (low, high) = result["distance"], result["ci95"]
    if not 0 < low < distance < high:
        raise SystemExit(f"the installed command returned the distance {distance} with the interval {low} to {high}")
    seconds = time.perf_counter() - start
    return f"{TEXTS[0]} / {TEXTS[1]}: {distance:.1f} in {seconds:.0f} s, {isolation}, version {version}"


def _disable_network() -> tuple[str, list[str], dict[str, str]]:
    """Return how the network is disabled, and the command prefix and environment variables that do it."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        try:
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
                return "in a namespace without a network", prefix, {}
        except OSError:
            break  # unshare is not installed
    proxies = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
    return "with invalid proxies, because namespaces are not available", [], proxies | {"HF_HUB_OFFLINE": "1"}


def _bill_of_materials(tools: Path, python: Path, installed: Mapping[str, tuple[str, str]], source: Path) -> dict[str, Any]:
    """Return the bill of materials of an environment, with the hash of the file that each package was installed from."""
    project = str(source / "pyproject.toml")
    output = _run(tools, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--pyproject", project, str(python))
    bill = json.loads(output)
    for component in [bill["metadata"]["component"], *bill["components"]]:
        component["hashes"] = [{"alg": "SHA-256", "content": installed[_normalize(component["name"])][1]}]
    return bill


def _write_dist(files: list[Path]) -> None:
    """Replace the content of `dist/` by `files` and their SHA-256 sums."""
    sums = "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted(files))
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    for old_file in dist.iterdir():
        old_file.unlink()
    for path in files:
        (dist / path.name).write_bytes(path.read_bytes())
    (dist / "SHA256SUMS").write_text(sums)
    _print(f"dist/SHA256SUMS:\n{sums}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _run(python: Path, *arguments: str) -> str:
    """Run `python` with the arguments, and return its output; exit if it fails."""
    process = subprocess.run([str(python), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{process.stdout}")
    return process.stdout


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
