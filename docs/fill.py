"""Fill README.md's generated parts from what the scripts left, so that no figure there is typed.

python docs/fill.py          # after training/evaluate.py and benchmarks/pair.py; runs the demonstration itself
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


def parts() -> dict[str, str]:
    """The parts that come from files."""
    results = json.loads((ROOT / "training" / "results.json").read_text())
    paper = "The paper gives 70.3, 60.2 and 20.5 for Stable Diffusion v1.4 (Jeffreys; its own figures, not run here)."
    return {
        "results": "\n".join([*table(results), "", paper]),
        "speed": (ROOT / "benchmarks" / "pair.md").read_text().strip(),
    }


def demo() -> str:
    """What the first command of the README prints, run here and now; it leaves its figure in docs."""
    command = [sys.executable, "-m", "conjure", *DEMO, "--figure", "docs/demo.png"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return "\n".join("    " + line for line in told.splitlines()).replace("docs/demo.png", "demo.png")


def fill(text: str, name: str, content: str) -> str:
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"README.md needs one part {name}"
    return pattern.sub(lambda _: f"<!-- {name} -->\n{content}\n<!-- /{name} -->", text)


def main() -> None:
    readme = ROOT / "README.md"
    text = filled = readme.read_text()
    wanted = parts() if "--check" in sys.argv else {**parts(), "demo": demo()}
    for name, content in wanted.items():
        filled = fill(filled, name, content)
    if "--check" in sys.argv:
        sys.exit(0 if filled == text else "README.md is behind its files; run: python docs/fill.py")
    readme.write_text(filled)


if __name__ == "__main__":
    main()
