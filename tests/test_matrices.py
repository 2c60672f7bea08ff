"""Matrices: their tree is scipy's, their groups are held apart by the textbook's silhouettes, and they survive every format."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

import conjure
from conjure import InputError
from conjure.checks import read_groups
from conjure.digits import with_error

TEXTS = ["puppy", "whale", "poodle", "shark"]


@pytest.fixture(scope="module")
def found(default):
    return conjure.matrix(default.set(steps=3), TEXTS, samples=3)


def test_samples_and_their_mean(found, default):
    """Each sample's matrix is what that sample gives of every pair."""
    assert found.each.shape == (3, 4, 4)
    np.testing.assert_allclose(found.each.mean(0), found.distance)
    np.testing.assert_allclose(found.each.std(0, ddof=1) / 3**0.5, found.stderr)
    alone = conjure.distance(default.set(steps=3), "whale", "shark")
    assert found.each[:, 1, 3] == pytest.approx(alone.samples, rel=1e-5)


def test_tree_is_scipy_s(found):
    known = linkage(squareform(found.distance), "average", optimal_ordering=True)
    np.testing.assert_allclose(found.linkage, known)
    assert list(found.order) == leaves_list(known).tolist()
    assert sorted(found.order) == [0, 1, 2, 3]


def test_like_texts_stand_together(found):
    places = {text: found.order.index(i) for i, text in enumerate(TEXTS)}
    assert abs(places["puppy"] - places["poodle"]) == abs(places["whale"] - places["shark"]) == 1


def test_silhouettes(found):
    """By hand, on distances of our own."""
    near, far = 1.0, 4.0
    distance = np.array([[0, near, far, 6], [near, 0, far, far], [far, far, 0, 2], [6, far, 2, 0]])
    own = replace(found, distance=distance, each=np.stack([distance, distance * 3]))  # no scale in it
    apart = own.separation([["puppy", "whale"], ["poodle", "shark"]])
    expected = {"puppy": (5 - 1) / 5, "whale": (4 - 1) / 4, "poodle": (4 - 2) / 4, "shark": (5 - 2) / 5}
    assert apart.of == pytest.approx(expected)
    assert apart.silhouette == pytest.approx(np.mean(list(expected.values())))
    assert apart.ci95 == pytest.approx((apart.silhouette, apart.silhouette))
    mixed = own.separation([["puppy", "poodle"], ["whale", "shark"]])
    assert mixed.silhouette < 0
    assert own.separation([["puppy", "whale"], ["shark"]]).of["shark"] == 0
    one = replace(found, samples=1, each=distance[None], distance=distance).separation([["puppy", "whale"], ["poodle", "shark"]])
    assert np.isnan(one.ci95).all()
    assert str(one) == "0.66"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["puppy"]], "1 groups, 1 of them with texts; give at least two"),
        ([["puppy"], []], "2 groups, 1 of them with texts"),
        ([["puppy"], ["cat"]], "'cat' of a group is not in the matrix"),
        ([["puppy"], ["puppy", "whale"]], "'puppy' stands in the groups twice"),
    ],
)
def test_groups_that_are_none(found, groups, message):
    with pytest.raises(InputError, match=message):
        found.separation(groups)


def test_formats(found, tmp_path, monkeypatch):
    head, *rows = csv.reader(found.to_csv().splitlines())
    assert head == ["", *TEXTS]
    np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in rows], found.distance)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False, default=str))
    assert set(told) >= {"texts", "distance", "stderr", "order", "process", "version", "identity"}
    assert replace(found, samples=1).to_dict()["stderr"] is None
    for name, start in (("m.png", b"\x89PNG"), ("m.svg", b"<?xml"), ("m.pdf", b"%PDF"), ("m.html", b"<!doctype html>")):
        found.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert found._repr_png_().startswith(b"\x89PNG")
    monkeypatch.setitem(__import__("sys").modules, "pandas", SimpleNamespace(DataFrame=lambda *args, **named: (args, named)))
    (distance,), named = found.to_frame()
    assert (distance is found.distance, named) == (True, {"index": TEXTS, "columns": TEXTS})
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        found.to_frame()


def test_texts_are_data(default, tmp_path):
    texts = ["<script>alert(1)</script>", "a $x^2$ & “b”", "שלום", "x" * 300]
    with pytest.warns(conjure.TextCutWarning):
        conjure.matrix(default.set(steps=2), texts, samples=1).save(tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_matrix_command(conjure_command, tmp_path):
    options = ("--steps", 2, "--samples", 2)
    code, told, _ = conjure_command("matrix", *TEXTS, *options, "--json")
    summary = json.loads(told)
    assert (code, summary["texts"], len(summary["distance"]), len(summary["stderr"][0])) == (0, TEXTS, 4, 4)
    assert sorted(summary["order"]) == [0, 1, 2, 3]
    assert "separation" not in summary
    listed = tmp_path / "texts.txt"
    listed.write_text("puppy\npoodle\n\n\nwhale\n  shark  \n")
    code, told, _ = conjure_command("matrix", "--file", listed, *options, "--json")
    grouped = json.loads(told)
    assert grouped["separation"]["ci95"][0] <= grouped["separation"]["silhouette"] <= grouped["separation"]["ci95"][1]
    assert grouped["distance"][0][1] == pytest.approx(summary["distance"][0][2], rel=1e-5)
    code, told, _ = conjure_command("matrix", "--file", listed, *options, "--csv")
    assert (code, told.splitlines()[0]) == (0, ",puppy,poodle,whale,shark")
    code, told, _ = conjure_command("matrix", "--file", listed, *options, "--figure", tmp_path / "m.png")
    assert (code, "the 2 groups stand apart" in told, (tmp_path / "m.png").exists()) == (0, True, True)


def test_people_get_distances_errors_and_the_tree(conjure_command, monkeypatch, found):
    """In eighty columns, without a broken number or name."""
    monkeypatch.setenv("COLUMNS", "80")
    texts = ["dalmatian", "sea lion", "[b]a very long text that does not fit beside its numbers", "shark", "whale", "pug", "cat"]
    code, told, _ = conjure_command("matrix", *texts, "--steps", 2, "--samples", 2)
    assert code == 0
    table, tree = told[: told.index("├")], told[told.index("├") :]
    assert max(map(len, table.splitlines())) <= 80
    assert table.count(" ± ") == 7 * 6
    assert all(f" {text}\n" in tree for text in texts)
    assert tree.count("└") == 6
    assert "2 samples of 2 steps" in tree
    assert found.cell(0, 0) == "0"
    assert found.cell(0, 1) == with_error(found.distance[0, 1], found.stderr[0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give texts, or a file of texts by --file"),
        (("one",), "a matrix of 1 texts; give at least two"),
        (("one", "one"), "'one' stands there twice"),
        (("one", "two", "--file", "x"), "not both"),
        (("--file", "/no/such/file"), "cannot be read"),
        (("one", "two", "--json", "--csv"), "allowed is one of them"),
        (("one", "two", "--figure", "m.gif"), "ends with '.gif'"),
        (("one", " "), "is blank"),
    ],
)
def test_bad_input(conjure_command, arguments, message):
    code, out, err = conjure_command("matrix", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_files_of_groups(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n\na\nb\n \n\nc\n")
    assert read_groups(path) == [["a", "b"], ["c"]]


def test_map_of_points_finds_them_again(found):
    """Squared distances of points of a plane are shown whole; of what has more dimensions, a share is told."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4, 2))
    squared = ((points[:, None] - points) ** 2).sum(-1)
    own = replace(found, distance=squared).map
    np.testing.assert_allclose(((own.points[:, None] - own.points) ** 2).sum(-1), squared, atol=1e-9)
    assert own.share == pytest.approx(1)
    far = replace(found, distance=2.0 * (1 - np.eye(4))).map  # four corners that are all equally far apart need three
    assert far.share == pytest.approx(2 / 3)
    bent = replace(found, distance=np.array([[0, 1, 1, 1], [1, 0, 9, 9], [1, 9, 0, 9], [1, 9, 9, 0.0]])).map
    assert 0 < bent.share < 0.9  # no space has such points, which is told


def test_map_is_drawn(found, conjure_command, tmp_path):
    found.save_map(tmp_path / "map.svg", [TEXTS[:2], TEXTS[2:]])
    assert (tmp_path / "map.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(InputError, match=r"\.html"):
        found.save_map(tmp_path / "map.html")
    command = ("matrix", "a", "b", "--steps", 2, "--samples", 1, "--map", tmp_path / "m.png")
    assert conjure_command(*command)[0] == 0
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
