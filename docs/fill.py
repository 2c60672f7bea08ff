"""Fill the generated parts of README.md and docs from what the scripts left, so that no figure there is typed.

python docs/fill.py          # after `make results` and the benchmarks; runs the demonstration itself
python docs/fill.py --check  # says whether the parts that come from files are as the files have them
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "results"))

import make  # noqa: E402

DEMO = ("compare", "snow leopard", "bengal tiger")


def parts() -> dict[str, dict[str, str]]:
    """The parts that come from files, by document and name."""
    tasks = make.load("sets")["tasks"]
    paper = (
        "The paper's column is its own, for Stable Diffusion v1.4; the rest was measured here ([all results](docs/results.md))."
    )
    results = f"Spearman x100 with people's scores:\n\n{make.sets(tasks).markdown()}\n\n{paper}"
    pair, many, variance = ((ROOT / "benchmarks" / f"{name}.md").read_text().strip() for name in ("pair", "many", "variance"))
    cost, workers, store = ((ROOT / "benchmarks" / f"{name}.md").read_text().strip() for name in ("cost", "workers", "store"))
    measured = {device: ROOT / "benchmarks" / f"sd-{device}.md" for device in ("cuda", "cpu")}
    sd = [file.read_text().strip() if file.exists() else f"On {device}: not run." for device, file in measured.items()]
    return {
        "README.md": {"results": results, "speed": pair},
        "docs/method.md": {"variance": variance},
        "docs/howto/cluster.md": {"cost": cost, "scale": f"{workers}\n\n{store}"},
        "docs/speed.md": {"pair": pair, "many": many, "sd": "\n\n".join(sd)},
    }


def demo() -> str:
    """What the first command of the README prints, run here and now; it leaves its figure in docs."""
    command = [sys.executable, "-m", "conjure", *DEMO, "--figure", "docs/demo.png"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return "\n".join("    " + line for line in told.splitlines()).replace("docs/demo.png", "demo.png")


def fill(text: str, name: str, content: str) -> str:
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"one part {name} is needed"
    return pattern.sub(lambda _: f"<!-- {name} -->\n{content}\n<!-- /{name} -->", text)


def main() -> None:
    check = "--check" in sys.argv
    wanted = parts()
    if not check:
        wanted["README.md"]["demo"] = demo()
    for document, contents in wanted.items():
        text = filled = (ROOT / document).read_text()
        for name, content in contents.items():
            filled = fill(filled, name, content)
        if check and filled != text:
            sys.exit(f"{document} is behind its files; run: python docs/fill.py")
        (ROOT / document).write_text(filled)
    for path, text in make.pages().items():
        if check and path.read_text() != text:
            sys.exit(f"{path.relative_to(ROOT)} is behind its files; run: make results")
        path.write_text(text)


if __name__ == "__main__":
    main()
