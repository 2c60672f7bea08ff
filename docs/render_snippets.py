"""Insert generated parts into README.md and the documentation, so that no figure in them is typed by hand.

A generated part stands between `<!-- name -->` and `<!-- /name -->`. Its content comes from a file that a script wrote.

python docs/render_snippets.py          # after `make results` and the benchmarks; also runs examples of the shell
python docs/render_snippets.py --check  # exits with 1 if a part that comes from a file is out of date
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "results"))

from result_pages import render_pages  # noqa: E402

DEMO = (
    'conjure compare "smiling face" "crying face"',
    'conjure compare "red fox" "grey wolf" --words | grep without',
    "conjure matrix puppy poodle shark --samples 2 | head -4",
    "printf '%s\\n' puppy wolf bicycle > candidates.txt",
    'conjure nearest "a small dog" --candidates candidates.txt',
    r"printf '%s\t%s\t%s\n' text1 text2 score gem jewel 3.94 car journey 1.55 boy lad 3.82 boy rooster 0.44 noon string 0.04 "
    "> ratings.tsv",
    "conjure bench --data ratings.tsv --out run > /dev/null; grep '^| ' run/report.md | head -2",
)
DISTANCES = (
    r"printf 'text1,text2,source\ngem,jewel,a\ncar,journey,b\nsnow leopard,bengal tiger,a\n' > pairs.csv",
    "conjure distances pairs.csv --samples 4",
    "conjure distances pairs.csv --samples 4 --max-pairs 1 --jsonl",
)


def benchmark(name: str) -> str:
    """Return what a script of the folder `benchmarks` measured, as Markdown."""
    path = ROOT / "benchmarks" / f"{name}.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else f"{name}: not run."


def snippets() -> dict[str, dict[str, str]]:
    """Return the parts that come from files, by document and name."""
    return {
        "docs/method.md": {"variance": benchmark("variance"), "interval coverage": benchmark("interval_coverage")},
        "docs/howto/drift.md": {name: benchmark(f"drift_{name}") for name in ("dtype", "guidance", "damage", "lora")},
        "docs/howto/video-and-sound.md": {"motion": benchmark("motion")},
        "docs/howto/app.md": {"load": benchmark("app")},
        "docs/howto/cluster.md": {
            "cost": benchmark("cost"),
            "scale": "\n\n".join(benchmark(name) for name in ("workers", "scaling", "store")),
        },
        "docs/speed.md": {
            "pair": benchmark("pair"),
            "many": benchmark("many"),
            "sd": f"{benchmark('stable_diffusion-cuda')}\n\n{benchmark('stable_diffusion-cpu')}",
        },
    }


def demo(figure: bool = True) -> str:
    """Run the shell commands of the README and return them with their output, as a block of Markdown.

    Args:
        figure: Whether the first command also writes docs/demo.png.
    """
    return console(DEMO, f" --figure {ROOT / 'docs' / 'demo.png'}" if figure else "")


def console(commands: Sequence[str], first_option: str = "") -> str:
    """Run shell commands in an empty folder and return them with their output, as a block of Markdown.

    Args:
        commands: The commands.
        first_option: What is appended to the first command, and not shown.
    """
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "110"}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for number, command in enumerate(commands):
            run = command + (first_option if number == 0 else "")
            done = subprocess.run(run, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=True)
            output = [line.rstrip() for line in done.stdout.splitlines() if line.strip() and "  wrote " not in line]
            lines += [f"$ {command}", *output]
    return "\n".join(["```console", *lines, "```"])


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
        documents |= {"README.md": {"demo": demo()}, "docs/howto/distances.md": {"output": console(DISTANCES)}}
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
