"""Build what is released from the last commit, and prove that it works: `make release`. Nothing is published from here.

It ends with `dist/` holding the wheel and the source distribution, a bill of materials (CycloneDX) of what the wheel brings
along, and the SHA-256 of all. On the way it stops at the first thing that is not as it should be:

- both are built twice, from the tracked files alone, and come out the same byte for byte;
- they hold the tracked files, all of them, as they are, and nothing else;
- the wheel alone, in an empty environment and with no network, compares two texts on the model that ships with it;
- what was installed beside it is what `release/runtime.txt` has locked.

Only the standard library is needed: the tools go into an environment that lasts as long as this script, each file of them checked
against the hashes of `release/tools.txt`.
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
import zipfile
from collections.abc import Mapping
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TEXTS = ("snow leopard", "bengal tiger")
NEEDED = (  # beyond what git tracks: that these are among it
    "conjure/models/default/README.md",  # with the attributions that the weights oblige to
    "conjure/models/default/transformer/diffusion_pytorch_model.safetensors",
    "conjure/models/default/vae/diffusion_pytorch_model.safetensors",
    "conjure/py.typed",
    "conjure/templates/explanation.html",
)
LEAST_WEIGHTS = 10_000_000  # bytes of safetensors; a checkout without its large files has less


def main() -> None:
    """Make `dist/`, or exit with what is wrong."""
    os.environ.pop("PYTHONPATH", None)
    commit, when = (_git("log", "-1", f"--format={one}").strip() for one in ("%H", "%ct"))
    os.environ["SOURCE_DATE_EPOCH"] = when
    _say(f"commit {commit[:12]} of {time.strftime('%F %T', time.gmtime(int(when)))} UTC")
    if changed := _git("status", "--porcelain"):
        _say(f"{len(changed.splitlines())} changes that are not committed are left out")
    with tempfile.TemporaryDirectory(prefix="conjure-release-") as name:
        place = Path(name)
        source = export(place / "source")
        tools = _environment(place / "tools", "--require-hashes", "--requirement", str(source / "release" / "tools.txt"))
        made, again = (_built(tools, source, place / folder) for folder in ("made", "again"))
        if differing := [one.name for one in made if one.read_bytes() != (again[0].parent / one.name).read_bytes()]:
            raise SystemExit(f"built twice, {', '.join(differing)} came out differently")
        sdist, wheel = made
        files = check_sdist(sdist, source), check_wheel(wheel, source)
        _run(tools, "-m", "twine", "check", "--strict", *map(str, made))
        for one, count in zip(made, files, strict=True):
            _say(f"{one.name}: {count} files, {one.stat().st_size / 1e6:.1f} MB, the same when built again")
        version = metadata(wheel)["Version"]
        empty, installed = _installed(tools, place / "empty", wheel, source)
        _say(f"{len(installed)} packages in an empty environment; {against_lock(installed, source / 'release' / 'runtime.txt')}")
        _say(_works(empty, version, place / "home"))
        bill = place / f"conjure-{version}.cdx.json"
        bill.write_text(json.dumps(_bill(tools, empty, installed, source), indent=1) + "\n")
        _run(tools, "-c", VALIDATE, str(bill))
        released = [*made, bill]
        sums = place / "SHA256SUMS"
        sums.write_text("".join(f"{_sha256(one)}  {one.name}\n" for one in sorted(released)))
        dist = ROOT / "dist"
        dist.mkdir(exist_ok=True)
        for old in dist.iterdir():
            old.unlink()
        for one in [*released, sums]:
            (dist / one.name).write_bytes(one.read_bytes())
        _say(f"dist/SHA256SUMS:\n{sums.read_text()}")


def export(folder: Path) -> Path:
    """Write the tracked files of the last commit into `folder`, so that nothing else that lies around gets in."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def check_wheel(wheel: Path, source: Path) -> int:
    """How many files are in `wheel`: those of the package as they are in `source`, its metadata, the licence, and no others."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/"
    described = {name.removeprefix(info) for name in held if name.startswith(info)}
    if described != {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}:
        raise SystemExit(f"{wheel.name} describes itself by {', '.join(sorted(described))}")
    if held[f"{info}licenses/LICENSE"] != (source / "LICENSE").read_bytes():
        raise SystemExit(f"{wheel.name} has another licence than the repository")
    _same(wheel.name, {name: content for name, content in held.items() if not name.startswith(info)}, _tree(source / "src"))
    if missing := [name for name in NEEDED if name not in held]:
        raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}")
    weights = sum(len(content) for name, content in held.items() if name.endswith(".safetensors"))
    if weights < LEAST_WEIGHTS:
        raise SystemExit(f"{wheel.name} has {weights:,} bytes of weights; the large files of the checkout are not there")
    return len(held)


def check_sdist(sdist: Path, source: Path) -> int:
    """How many files are in `sdist`: those of `source` as they are, its metadata, and no others."""
    top = sdist.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(sdist) as tar:
        held = {one.name.removeprefix(top): tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]
    if held.pop("PKG-INFO", None) is None:
        raise SystemExit(f"{sdist.name} has no metadata")
    _same(sdist.name, held, _tree(source))
    return len(held) + 1


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _same(name: str, held: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> None:
    for what, found in (
        ("lacks", wanted.keys() - held.keys()),
        ("has beyond the tracked files", held.keys() - wanted.keys()),
        ("has with another content", {path for path in held.keys() & wanted.keys() if held[path] != wanted[path]}),
    ):
        if found:
            raise SystemExit(f"{name} {what}: {', '.join(sorted(found)[:10])}")


def metadata(wheel: Path) -> Message:
    """Name, version and the like, as `wheel` tells them."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]*\.dist-info/METADATA", name))
        return HeaderParser().parsestr(archive.read(name).decode())


def locked(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Version and SHA-256s of each package in a lock file."""
    found: dict[str, tuple[str, set[str]]] = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        if pinned := re.match(r"([\w.-]+)==([^\s;]+)", entry):
            found[pinned[1]] = (pinned[2], set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)))
    return found


def against_lock(installed: Mapping[str, tuple[str, str]], lock: Path) -> str:
    """What is to be said of `installed` (name -> version, SHA-256) beside `lock`: how much of it is known by its hash.

    A build for one machine, with a local version such as +cpu, is never on PyPI; it is named. Anything else must be locked.
    """
    known, own = locked(lock), []
    for name, (version, sha256) in installed.items():
        if name == "conjure":
            continue
        if name not in known or known[name][0] != version.partition("+")[0]:
            raise SystemExit(f"{name} {version} was installed, but is not locked so in {lock.name}; run make lock")
        if sha256 not in known[name][1]:
            if "+" not in version:
                raise SystemExit(f"{name} {version} was installed from a file with the hash {sha256}, which PyPI does not know")
            own.append(f"{name} {version}")
    return "hashes are those of PyPI" + (f", but for {', '.join(own)}, a build that is not there" if own else "")


def _environment(folder: Path, *wanted: str) -> Path:
    """The Python of a fresh environment in `folder`, with what pip makes of `wanted`."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted)
    return python


def _built(tools: Path, source: Path, folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is made from it alone."""
    _run(tools, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def _installed(tools: Path, folder: Path, wheel: Path, source: Path) -> tuple[Path, dict[str, tuple[str, str]]]:
    """The Python of an environment with `wheel` and what it needs, and not even pip; version and SHA-256 of each package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python, report = folder / "bin" / "python", folder / "report.json"
    _run(tools, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet",
         "--constraint", str(source / "constraints.txt"), "--report", str(report), str(wheel))  # fmt: skip
    packages = json.loads(report.read_text())["install"]
    report.unlink()
    return python, {
        _normal(one["metadata"]["name"]): (one["metadata"]["version"], one["download_info"]["archive_info"]["hashes"]["sha256"])
        for one in packages
    }


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _works(python: Path, version: str, home: Path) -> str:
    """Compare two texts with what was installed, offline and with an empty home; how long it took, and what it gave."""
    home.mkdir()
    how, before, settings = _no_network()
    settings |= {"HOME": str(home), "PATH": os.environ["PATH"]}
    command = [*before, str(python.parent / "conjure"), "compare", *TEXTS, "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=home, env=settings, capture_output=True, text=True, check=False, timeout=3600)
    if done.returncode or done.stderr:
        raise SystemExit(f"the installed command exited with {done.returncode}: {done.stderr}")
    told = json.loads(done.stdout)
    if (told["version"], told["process"]["model"], told["texts"]) != (version, "default", list(TEXTS)):
        raise SystemExit(f"the installed command told of something else: {done.stdout[:500]}")
    low, high = told["ci95"]
    if not 0 < low < told["distance"] < high:
        raise SystemExit(f"the installed command gave {told['distance']} ({low} to {high})")
    return f"{TEXTS[0]} / {TEXTS[1]}: {told['distance']:.1f} in {time.perf_counter() - start:.0f} s, {how}, by version {version}"


def _no_network() -> tuple[str, list[str], dict[str, str]]:
    """How the network is kept away, what to put before a command for that, and what into its environment."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return "in a namespace without a network", command, {}
        except OSError:
            break  # there is no such command here
    proxies = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
    return "with dead proxies (no namespaces here)", [], proxies | {"HF_HUB_OFFLINE": "1"}


def _bill(tools: Path, empty: Path, installed: Mapping[str, tuple[str, str]], source: Path) -> dict[str, Any]:
    """The bill of materials of the environment, with the hash of the file that each package was installed from."""
    project = str(source / "pyproject.toml")
    told = _run(tools, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--pyproject", project, str(empty))
    bill = json.loads(told)
    for component in [bill["metadata"]["component"], *bill["components"]]:
        component["hashes"] = [{"alg": "SHA-256", "content": installed[_normal(component["name"])][1]}]
    return bill


VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(problem) if problem else 0)
"""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _run(python: Path, *arguments: str) -> str:
    done = subprocess.run([str(python), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}")
    return done.stdout


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
