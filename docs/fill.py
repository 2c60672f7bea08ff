"""Fill the generated parts of README.md and docs from what the scripts left, so that no figure there is typed.

python docs/fill.py          # after training/evaluate.py and the benchmarks; runs the demonstration itself
python docs/fill.py --check  # says whether the parts that come from files are as the files have them
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "training"))

from card import table  # noqa: E402

DEMO = ("compare", "snow leopard", "bengal tiger")


def parts() -> dict[str, dict[str, str]]:
    """The parts that come from files, by document and name."""
    results = json.loads((ROOT / "training" / "results.json").read_text())
    paper = "The paper gives 70.3, 60.2 and 20.5 for Stable Diffusion v1.4 (Jeffreys; its own figures, not run here)."
    pair, many, variance = ((ROOT / "benchmarks" / f"{name}.md").read_text().strip() for name in ("pair", "many", "variance"))
    measured = {device: ROOT / "benchmarks" / f"sd-{device}.md" for device in ("cuda", "cpu")}
    sd = [file.read_text().strip() if file.exists() else f"On {device}: not run." for device, file in measured.items()]
    return {
        "README.md": {"results": "\n".join([*table(results), "", paper]), "speed": pair},
        "docs/method.md": {"variance": variance},
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


if __name__ == "__main__":
    main()
