"""What the documentation says is true: its examples run, its options exist, its figures are those of the files."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import conjure
import render_snippets
from conjure.evaluation.datasets import TASKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPT_FOLDERS = ("tests", "docs", "results", "release", "training", "benchmarks")


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "puppy.png").exists()


@pytest.mark.slow
def test_shell_examples_print_what_the_readme_shows():
    """The commands run as they stand there. Numbers may differ in their last digits on another machine."""
    assert without_digits(render_snippets.demo(figure=False)) == without_digits(README.split("<!-- demo -->")[1])


@pytest.mark.slow
def test_distances_print_what_their_page_shows():
    page = (ROOT / "docs" / "howto" / "distances.md").read_text(encoding="utf-8")
    assert without_digits(render_snippets.console(render_snippets.DISTANCES)) == without_digits(page.split("<!-- output -->")[1])


def without_digits(text: str) -> list[str]:
    return re.sub(r"[\d.,+-]+", "#", text.partition("<!--")[0]).split()


def test_shell_examples_are_those_that_run():
    shown = README.split("<!-- demo -->")[1]
    commands = [line.removeprefix("$ ") for line in shown.splitlines() if line.startswith("$ ")]
    assert commands == list(render_snippets.DEMO)
    assert len(commands) >= 5
    page = (ROOT / "docs" / "howto" / "distances.md").read_text(encoding="utf-8").split("<!-- output -->")[1]
    commands = [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ ")]
    assert commands == list(render_snippets.DISTANCES)


def test_public_names_are_not_hidden_by_modules():
    """An imported module becomes an attribute of its package, where it would replace a function of the same name."""
    modules = [name for _, name, _ in pkgutil.iter_modules(conjure.__path__) if name != "__main__"]
    assert not set(modules) & set(conjure.__all__)
    for name in modules:
        import_module(f"conjure.{name}")
    for name in conjure.__all__:
        assert getattr(conjure, name).__name__ in (name, "read_file")


@pytest.mark.parametrize(
    "script", ["render_snippets", "generate_cli_reference"], ids=["parts from files", "command-line reference"]
)
def test_generated_parts_are_up_to_date(script):
    command = [sys.executable, f"docs/{script}.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_links_have_targets(path):
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_makefile_has_the_commands_that_are_named():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)\b", README + (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert {"demo", "test", "test-all", "check"} <= named <= set(targets)


def test_table_of_datasets_is_that_of_the_code():
    table = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name, dataset in TASKS.items():
        assert f"`{name}`" in table or re.fullmatch(r"sts1[345]", name), name
        assert str(dataset.pairs) in table, name


@pytest.mark.slow
def test_tour_runs():
    """The notebook runs from top to bottom, and its results are shown as images."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "docs" / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert any("jeffreys" in output.get("data", {}).get("text/html", "") for output in outputs)


def test_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    expected = {"index.html", "howto/models/index.html", "reference/index.html", "cli/index.html", "results/index.html"}
    assert expected <= pages
    reference = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for name in conjure.__all__:
        assert f".{name}" in reference, name
    assert reference.count("<table>") > 50  # parameters
    for path in site.rglob("*.html"):  # a browser loads nothing from another host, except when a link is followed
        assert not re.findall(
            r'<(?:script|img|iframe)[^>]* src="https?:|<link[^>]*stylesheet[^>]*href="https?:', path.read_text(encoding="utf-8")
        )


def test_scripts_have_unique_names():
    """Scripts and tests are imported by their bare names: of two with one name the second import would return the first."""
    names = [path.stem for folder in SCRIPT_FOLDERS for path in (ROOT / folder).rglob("*.py") if path.parent.name != "cache"]
    repeated = {name for name in names if names.count(name) > 1}
    assert repeated <= {"conftest"}, repeated


@pytest.mark.slow
def test_figures_of_the_paper(monkeypatch, tmp_path, capsys):
    """One command draws them all, and prints how well the groups of Figure 2 are separated."""
    monkeypatch.syspath_prepend(ROOT / "results")
    import paper_figures

    monkeypatch.setattr(sys, "argv", ["paper_figures.py", "--out", str(tmp_path), "--samples", "1"])
    monkeypatch.setattr(paper_figures, "GRIDS", {"leopard": paper_figures.GRIDS["leopard"]})
    paper_figures.main()
    assert {path.name for path in tmp_path.iterdir()} == {"leopard.png", "nouns.png", "verbs.png"}
    assert capsys.readouterr().out.count("mean silhouette") == 2


@pytest.mark.parametrize(
    ("related", "beyond", "expected", "unexpected"),
    [
        ((-0.1, 0.1), (-0.1, 0.1), "neither direction is significantly larger", "contributes to the asymmetry"),
        ((0.1, 0.2), (-0.1, 0.1), "does not differ significantly from that of the control", "neither direction"),
        ((0.1, 0.2), (0.1, 0.2), "contributes to the asymmetry", "no evidence"),
    ],
)
def test_asymmetry_page_claims_what_its_intervals_allow(monkeypatch, related, beyond, expected, unexpected):
    monkeypatch.syspath_prepend(ROOT / "results")
    import asymmetry
    import result_pages

    results = result_pages.load_json("asymmetry")
    assert asymmetry.render_page(results) == (ROOT / "docs" / "asymmetry.md").read_text(encoding="utf-8")
    results["related"]["ci95"], results["difference_from_control"]["ci95"] = related, beyond
    page = asymmetry.render_page(results)
    assert expected in page
    assert unexpected not in page


def compared_group(name: str, low: float, high: float) -> dict[str, Any]:
    difference = {"spearman": (low + high) / 2, "ci95": [low, high]}
    return {"kind": "numbers", "name": name, "encoder": {"spearman": 50.0, "difference": difference}}


def test_kinds_of_pairs_named_on_the_results_page_are_those_whose_interval_excludes_0(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "results")
    import result_pages

    groups = [compared_group("none", 1, 3), compared_group("the same", -1, 3), compared_group("different", -4, -2)]
    groups += [{"kind": "negation", "name": "in one", "encoder": None}, {"kind": "negation", "name": "in both"}]
    tasks: dict[str, Any] = {
        name: {"title": name.upper(), "groups": groups if name == "stsb" else []} for name in result_pages.KINDS_DATASETS
    }
    text = result_pages.encoder_comparison(tasks)
    assert "within 3 kinds of pairs of STSB" in text
    assert "significantly higher in 1 (STSB: numbers none (+2.0)), and significantly lower in 1 (STSB: numbers different" in text
    assert "In the other 1, " in text
    assert result_pages.encoder_comparison(tasks | {"stsb": tasks["sickr"]}).startswith("Not measured")
    groups[0] = compared_group("none", -1, 3)
    assert "significantly higher in none, and significantly lower in 1" in result_pages.encoder_comparison(tasks)


def test_results_of_some_datasets_are_updated_only_by_those_of_the_same_process(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "results")
    import build_results

    baselines: dict[str, Any] = {"encoder": {"spearman": 82.0}, "random": {"spearman": 1.0}}
    task: dict[str, Any] = {"data": "0" * 64, "spearman": 76.26, "floors": {}, "baselines": baselines}
    settings: dict[str, Any] = {"measure": {}, "samples": 1, "seed": 0, "antithetic": False}
    summary: dict[str, Any] = {"fingerprint": "a", **settings, "version": "1", "tasks": {"stsb": task, "rg65": task}}
    again = {"data": "0" * 64, "spearman": 76.27, "floors": None, "groups": [1], "baselines": {"encoder": {"spearman": 82.01}}}
    measured: dict[str, Any] = {"fingerprint": "a", **settings, "version": "2", "tasks": {"stsb": again}}
    updated = again | {"floors": {}, "baselines": {"encoder": {"spearman": 82.01}, "random": {"spearman": 1.0}}}
    assert build_results.update_datasets(summary, measured) == summary | {"tasks": {"stsb": updated, "rg65": task}}
    with pytest.raises(conjure.InputError, match="fingerprint is 'a' in sets.json, but 'b' was measured"):
        build_results.update_datasets(summary, measured | {"fingerprint": "b"})
    for change in ({"spearman": 75.0}, {"data": "1" * 64}, {"baselines": {"encoder": {"spearman": 80.0}}}):
        with pytest.raises(conjure.InputError, match=r"stsb has Spearman \[76.26, 82.0\] and pairs 0000"):
            build_results.update_datasets(summary, measured | {"tasks": {"stsb": again | change}})
