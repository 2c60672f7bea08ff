"""Insert generated parts into README.md and the documentation, so that no figure in them is typed by hand.

A generated part stands between `<!-- name -->` and `<!-- /name -->`. Its content comes from a file that a script wrote.

python docs/render_snippets.py          # after `make results` and the benchmarks; also runs the example of the README
python docs/render_snippets.py --check  # exits with 1 if a part that comes from a file is out of date
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "results"))

from build_results import datasets_table, load_json, render_pages  # noqa: E402

DEMO = ("compare", "snow leopard", "bengal tiger")


def benchmark(name: str) -> str:
    """Return what a script of the folder `benchmarks` measured, as Markdown."""
    path = ROOT / "benchmarks" / f"{name}.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else f"{name}: not run."


def snippets() -> dict[str, dict[str, str]]:
    """Return the parts that come from files, by document and name."""
    table = datasets_table(load_json("sets")["tasks"]).markdown()
    source = (
        "The column “paper” is Stable Diffusion v1.4 as printed in the paper. All other figures were measured with this package "
        "([all results](docs/results.md))."
    )
    return {
        "README.md": {"results": f"Spearman x100 with human ratings:\n\n{table}\n\n{source}", "speed": benchmark("pair")},
        "docs/method.md": {"variance": benchmark("variance")},
        "docs/howto/cluster.md": {"cost": benchmark("cost"), "scale": f"{benchmark('workers')}\n\n{benchmark('store')}"},
        "docs/speed.md": {
            "pair": benchmark("pair"),
            "many": benchmark("many"),
            "sd": f"{benchmark('stable_diffusion-cuda')}\n\n{benchmark('stable_diffusion-cpu')}",
        },
    }


def demo() -> str:
    """Run the first command of the README, write its figure to docs, and return its output as an indented block."""
    command = [sys.executable, "-m", "conjure", *DEMO, "--figure", "docs/demo.png"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return "\n".join("    " + line for line in output.splitlines()).replace("docs/demo.png", "demo.png")


def insert(text: str, name: str, content: str) -> str:
    """Replace the part `name` of a document by `content`."""
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    assert len(pattern.findall(text)) == 1, f"the document must have exactly one part {name!r}"
    return pattern.sub(lambda _: f"<!-- {name} -->\n{content}\n<!-- /{name} -->", text)


def main() -> None:
    """Write the documents, or compare them with the files that they are made from."""
    check = "--check" in sys.argv
    documents = snippets()
    if not check:
        documents["README.md"]["demo"] = demo()
    for document, contents in documents.items():
        path = ROOT / document
        text = updated = path.read_text(encoding="utf-8")
        for name, content in contents.items():
            updated = insert(updated, name, content)
        if check and updated != text:
            sys.exit(f"{document} is out of date; run: python docs/render_snippets.py")
        path.write_text(updated, encoding="utf-8")
    for path, text in render_pages().items():
        if check and path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.relative_to(ROOT)} is out of date; run: make results")
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
