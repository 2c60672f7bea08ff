"""What the documentation says is so: its examples run, its options exist, its figures are those of the files."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import conjure

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "puppy.png").exists()


def test_public_names_are_not_hidden_by_modules():
    """An imported module becomes an attribute of its package, where it would take the place of a call of the same name."""
    modules = [name for _, name, _ in pkgutil.iter_modules(conjure.__path__) if name != "__main__"]
    assert not set(modules) & set(conjure.__all__)
    for name in modules:
        import_module(f"conjure.{name}")
    for name in conjure.__all__:
        assert getattr(conjure, name).__name__ == name


def test_options_of_the_table_are_those_of_the_command():
    told = subprocess.run([sys.executable, "-m", "conjure", "compare", "--help"], capture_output=True, text=True, check=True)
    command = set(re.findall(r"--[a-z]+", told.stdout)) - {"--help"}
    table = set(re.findall(r"--[a-z]+", "".join(line for line in README.splitlines() if line.startswith("| `--"))))
    assert table | {"--model"} == command


def test_figures_are_those_of_the_files():
    done = subprocess.run([sys.executable, "docs/fill.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_makefile_has_the_commands_that_are_named():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"make ([a-z]+)\b", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert named - {"and"} <= set(targets)


def test_table_of_sets_is_that_of_the_code():
    from conjure.benchmarks import TASKS

    table = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, benchmark in TASKS.items():
        assert f"`{name}`" in table or re.fullmatch(r"sts1[345]", name), name
        assert str(benchmark.pairs) in table, name


def test_tour_runs():
    """The notebook runs from top to bottom, and what should show itself as a picture does."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
    assert any("jeffreys" in output.get("data", {}).get("text/html", "") for output in shown)


def test_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "howto/models/index.html", "reference/index.html", "results/index.html"} <= pages
    reference = (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")
    for name in conjure.__all__:
        assert f".{name}" in reference, name
    for path in (tmp_path / "site").rglob("*.html"):  # nothing that a browser would fetch from elsewhere, but links
        assert not re.findall(
            r'<(?:script|img|iframe)[^>]* src="https?:|<link[^>]*stylesheet[^>]*href="https?:', path.read_text(encoding="utf-8")
        )


def test_scripts_have_names_of_their_own():
    """Scripts are imported by their bare names: of two of one name the second to be asked for would get the first."""
    names = [path.stem for folder in ("tests", "docs", "results", "release", "training") for path in (ROOT / folder).glob("*.py")]
    assert sorted(names) == sorted(set(names))


def test_figures_of_the_paper(monkeypatch, tmp_path, capsys):
    """One command draws them all, and tells how well the groups of Figure 2 stand apart."""
    monkeypatch.syspath_prepend(ROOT / "results")
    import paper

    monkeypatch.setattr(sys, "argv", ["paper.py", "--out", str(tmp_path), "--samples", "1"])
    monkeypatch.setattr(paper, "GRIDS", {"leopard": paper.GRIDS["leopard"]})
    paper.main()
    assert {path.name for path in tmp_path.iterdir()} == {"leopard.png", "nouns.png", "verbs.png"}
    assert capsys.readouterr().out.count("mean silhouette") == 2


@pytest.mark.parametrize(
    ("related", "beyond", "says", "not_said"),
    [
        ((-0.1, 0.1), (-0.1, 0.1), "No direction is surely the larger", "has a part in it"),
        ((0.1, 0.2), (-0.1, 0.1), "the control leans as much", "No direction"),
        ((0.1, 0.2), (0.1, 0.2), "has a part in it", "no sign"),
    ],
)
def test_page_of_asymmetry_says_what_its_intervals_allow(monkeypatch, related, beyond, says, not_said):
    monkeypatch.syspath_prepend(ROOT / "results")
    import asymmetry
    import make

    told = make.load("asymmetry")
    assert asymmetry.page(told) == (ROOT / "docs" / "asymmetry.md").read_text(encoding="utf-8")
    told[asymmetry.NAMES[0]]["ci95"], told["beyond the control"]["ci95"] = related, beyond
    page = asymmetry.page(told)
    assert says in page
    assert not_said not in page
