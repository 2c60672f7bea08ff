"""Matrices: clusters are those of scipy, silhouettes and embeddings those of cases computed by hand; all formats are written."""

from __future__ import annotations

import csv
import json
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

import conjure
from conjure import InputError
from conjure.io.formatting import shared_decimals
from conjure.similarity.validation import read_groups

TEXTS = ["puppy", "whale", "poodle", "shark"]


@pytest.fixture(scope="module")
def matrix(default_process) -> conjure.Matrix:
    return conjure.matrix(default_process.set(steps=3), TEXTS, samples=3)


def test_entries_are_means_of_the_distances_of_pairs(matrix, default_process):
    assert matrix.sample_distances.shape == (3, 4, 4)
    np.testing.assert_allclose(matrix.sample_distances.mean(0), matrix.distance)
    np.testing.assert_allclose(matrix.sample_distances.std(0, ddof=1) / 3**0.5, matrix.stderr)
    estimate = conjure.distance(default_process.set(steps=3), "whale", "shark")
    assert matrix.sample_distances[:, 1, 3] == pytest.approx(estimate.samples, rel=1e-5)


def test_intervals_of_the_entries(matrix, default_process):
    """With few pairs nothing is pooled, and the intervals are those of the distances of pairs."""
    assert (matrix.pooled_pairs, matrix.degrees_of_freedom, matrix.notes) == (0, 2, ())
    np.testing.assert_allclose(matrix.raw_stderr, matrix.stderr)
    low, high = matrix.ci95
    estimate = conjure.distance(default_process.set(steps=3), "whale", "shark")
    assert (low[1, 3], high[1, 3]) == pytest.approx(estimate.ci95, rel=1e-4)
    assert (low[2, 2], high[2, 2]) == (0, 0)
    plain = matrix.to_dict()
    assert plain["ci95"][3][1] == [low[1, 3], high[1, 3]]
    assert plain["raw_stderr"] == matrix.raw_stderr.tolist()


@pytest.mark.parametrize("divergence", ["jeffreys", "kl"])
def test_errors_of_many_pairs_are_pooled(default_process, divergence):
    texts = ["puppy", "whale", "poodle", "shark", "apple"]
    pooled = conjure.matrix(default_process.set(steps=2), texts, samples=2, divergence=divergence)
    assert pooled.pooled_pairs == (20 if divergence == "kl" else 10)
    assert 1 < pooled.degrees_of_freedom <= 7
    assert pooled.notes[0] == f"the standard errors are pooled over {pooled.pooled_pairs} pairs"
    assert "from 2 samples" in pooled.notes[1]
    different = ~np.eye(5, dtype=bool)
    relative, raw = ((error / pooled.distance.clip(1e-9))[different] for error in (pooled.stderr, pooled.raw_stderr))
    assert relative.max() / relative.min() < raw.max() / raw.min()
    assert (pooled.ci95[0] >= 0).all()
    assert (pooled.stderr == pooled.stderr.T).all() == (divergence != "kl")
    assert pooled.notes[0] in pooled.to_html()


def test_linkage_is_that_of_scipy(matrix):
    expected = linkage(squareform(matrix.distance), "average", optimal_ordering=True)
    np.testing.assert_allclose(matrix.linkage, expected)
    assert list(matrix.order) == leaves_list(expected).tolist()
    assert sorted(matrix.order) == [0, 1, 2, 3]


def test_similar_texts_are_neighbours_in_the_order(matrix):
    position = {text: matrix.order.index(i) for i, text in enumerate(TEXTS)}
    assert abs(position["puppy"] - position["poodle"]) == abs(position["whale"] - position["shark"]) == 1


def test_silhouettes(matrix):
    """Values computed by hand; the scale of the distances has no effect."""
    near, far = 1.0, 4.0
    distance = np.array([[0, near, far, 6], [near, 0, far, far], [far, far, 0, 2], [6, far, 2, 0]])
    made = replace(matrix, distance=distance, sample_distances=np.stack([distance, distance * 3]))
    separated = made.separation([["puppy", "whale"], ["poodle", "shark"]])
    expected = {"puppy": (5 - 1) / 5, "whale": (4 - 1) / 4, "poodle": (4 - 2) / 4, "shark": (5 - 2) / 5}
    assert separated.per_text == pytest.approx(expected)
    assert separated.silhouette == pytest.approx(np.mean(list(expected.values())))
    assert separated.ci95 == pytest.approx((separated.silhouette, separated.silhouette))
    mixed = made.separation([["puppy", "poodle"], ["whale", "shark"]])
    assert mixed.silhouette < 0
    assert made.separation([["puppy", "whale"], ["shark"]]).per_text["shark"] == 0
    one_sample = replace(matrix, samples=1, sample_distances=distance[None], distance=distance)
    separation = one_sample.separation([["puppy", "whale"], ["poodle", "shark"]])
    assert np.isnan(separation.ci95).all()
    assert separation.to_dict()["ci95"] is None
    assert str(separation) == "0.66"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["puppy"]], "1 groups, 1 of them with texts; give at least two"),
        ([["puppy"], []], "2 groups, 1 of them with texts"),
        ([["puppy"], ["cat"]], "'cat' of a group is not in the matrix"),
        ([["puppy"], ["puppy", "whale"]], "'puppy' occurs more than once in the groups"),
    ],
)
def test_invalid_groups(matrix, groups, message):
    with pytest.raises(InputError, match=message):
        matrix.separation(groups)


def test_formats(matrix, tmp_path, monkeypatch):
    head, *rows = csv.reader(matrix.to_csv().splitlines())
    assert head == ["", *TEXTS, *(f"stderr: {text}" for text in TEXTS)]
    assert [row[0] for row in rows] == TEXTS
    values = np.array([[float(entry) for entry in row[1:]] for row in rows])
    np.testing.assert_allclose(values, np.hstack([matrix.distance, matrix.stderr]))
    pairs = matrix.to_pandas()
    assert list(pairs) == ["text1", "text2", "distance", "stderr", "ci95_low", "ci95_high"]
    np.testing.assert_allclose(pairs["stderr"], matrix.stderr[np.triu_indices(len(TEXTS), 1)])
    plain = json.loads(json.dumps(matrix.to_dict(), allow_nan=False, default=str))
    assert set(plain) >= {"texts", "distance", "stderr", "order", "process", "version", "fingerprint"}
    assert replace(matrix, samples=1).to_dict()["stderr"] is None
    for name, start in (("m.png", b"\x89PNG"), ("m.svg", b"<?xml"), ("m.pdf", b"%PDF"), ("m.html", b"<!doctype html>")):
        matrix.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    assert matrix._repr_png_().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda *args, **kwargs: (args, kwargs)))
    (distance,), labels = matrix.to_frame()
    assert (distance is matrix.distance, labels) == (True, {"index": TEXTS, "columns": TEXTS})
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        matrix.to_frame()


def test_page_escapes_texts(default_process, tmp_path):
    texts = ["<script>alert(1)</script>", "a $x^2$ & “b”", "שלום", "x" * 300]
    with pytest.warns(conjure.TextTruncationWarning):
        conjure.matrix(default_process.set(steps=2), texts, samples=1).save(tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text()
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") > 1
    assert page.count("<script") == page.count("</script") == 2


def test_command(conjure_command, tmp_path):
    options = ("--steps", 2, "--samples", 2)
    code, out, _ = conjure_command("matrix", *TEXTS, *options, "--json")
    plain = json.loads(out)
    assert (code, plain["texts"], len(plain["distance"]), len(plain["stderr"][0])) == (0, TEXTS, 4, 4)
    assert sorted(plain["order"]) == [0, 1, 2, 3]
    assert "separation" not in plain
    text_file = tmp_path / "texts.txt"
    text_file.write_text("puppy\npoodle\n\n\nwhale\n  shark  \n")
    code, out, _ = conjure_command("matrix", "--file", text_file, *options, "--json")
    grouped = json.loads(out)
    low, high = grouped["separation"]["ci95"]
    assert low <= grouped["separation"]["silhouette"] <= high
    assert set(grouped["separation"]["per_text"]) == set(TEXTS)
    assert grouped["distance"][0][1] == pytest.approx(plain["distance"][0][2], rel=1e-5)
    code, out, _ = conjure_command("matrix", "--file", text_file, *options, "--csv")
    assert (code, out.splitlines()[0]) == (
        0,
        ",puppy,poodle,whale,shark" + ",stderr: puppy,stderr: poodle,stderr: whale,stderr: shark",
    )
    code, out, _ = conjure_command("matrix", "--file", text_file, *options, "--figure", tmp_path / "m.png")
    assert (code, "mean silhouette of the groups" in out, (tmp_path / "m.png").exists()) == (0, True, True)


def test_console_output_has_distances_errors_and_the_dendrogram(conjure_command, monkeypatch, matrix):
    """At a width of 80 columns no number and no short name is wrapped."""
    monkeypatch.setenv("COLUMNS", "80")
    texts = ["dalmatian", "sea lion", "[b]a very long text that does not fit beside its numbers", "shark", "whale", "pug", "cat"]
    code, out, _ = conjure_command("matrix", *texts, "--steps", 2, "--samples", 2)
    assert code == 0
    table, tree = out[: out.index("├")], out[out.index("├") :]
    assert max(map(len, table.splitlines())) <= 80
    assert table.count(" ± ") == 7 * 6
    assert all(f" {text}\n" in tree for text in texts)
    assert tree.count("└") == 6
    assert "2 samples, 2 steps" in tree
    assert matrix.format_entry(0, 0) == "0"
    upper = np.triu_indices(len(matrix.texts), 1)
    decimals = shared_decimals(matrix.distance[upper], matrix.stderr[upper])
    assert matrix.format_entry(0, 1) == f"{matrix.distance[0, 1]:.{decimals}f} ± {matrix.stderr[0, 1]:.{decimals}f}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "file of texts"),
        (("one",), "a matrix of 1 text"),
        (("one", "one"), "'one'"),
        (("one", "two", "--file", "x"), "not both"),
        (("--file", "/no/such/file"), "cannot be read"),
        (("one", "two", "--json", "--csv"), "give only one of them"),
        (("one", "two", "--figure", "m.gif"), "ends with '.gif'"),
        (("one", " "), "is blank"),
    ],
)
def test_invalid_input_of_the_command(conjure_command, arguments, message):
    code, out, err = conjure_command("matrix", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_texts_must_be_a_list(default_process):
    with pytest.raises(InputError, match="give a list of texts"):
        conjure.matrix(default_process, "abc")


def test_files_of_groups(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n\na\nb\n \n\nc\n")
    assert read_groups(path) == [["a", "b"], ["c"]]


def test_embedding_recovers_points_of_the_plane(matrix):
    """Squared distances of points of the plane are explained completely; those of other configurations in part."""
    points = np.random.default_rng(0).normal(size=(4, 2))
    squared = ((points[:, None] - points) ** 2).sum(-1)
    embedding = replace(matrix, distance=squared).mds_embedding
    np.testing.assert_allclose(((embedding.points[:, None] - embedding.points) ** 2).sum(-1), squared, atol=1e-9)
    assert embedding.explained == pytest.approx(1)
    tetrahedron = replace(matrix, distance=2.0 * (1 - np.eye(4))).mds_embedding  # needs three dimensions
    assert tetrahedron.explained == pytest.approx(2 / 3)
    not_euclidean = replace(matrix, distance=np.array([[0, 1, 1, 1], [1, 0, 9, 9], [1, 9, 0, 9], [1, 9, 9, 0.0]])).mds_embedding
    assert 0 < not_euclidean.explained < 0.9


def test_embedding_is_drawn(matrix, conjure_command, tmp_path):
    matrix.save_mds(tmp_path / "mds.svg", [TEXTS[:2], TEXTS[2:]])
    assert (tmp_path / "mds.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(InputError, match=r"\.html"):
        matrix.save_mds(tmp_path / "mds.html")
    command = ("matrix", "a", "b", "--steps", 2, "--samples", 1, "--mds", tmp_path / "m.png")
    assert conjure_command(*command)[0] == 0
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_deprecated_names(matrix, tmp_path):
    separation = matrix.separation([TEXTS[:2], TEXTS[2:]])
    for owner, old_name, new_name in (
        (matrix, "each", "sample_distances"),
        (matrix, "map", "mds_embedding"),
        (matrix, "identity", "fingerprint"),
        (matrix.mds_embedding, "share", "explained"),
        (separation, "of", "per_text"),
    ):
        with pytest.warns(DeprecationWarning, match=f"{old_name} was renamed"):
            assert getattr(owner, old_name) is getattr(owner, new_name)
    with pytest.warns(DeprecationWarning, match="cell was renamed"):
        assert matrix.cell(0, 1) == matrix.format_entry(0, 1)
    with pytest.warns(DeprecationWarning, match="save_map was renamed"):
        matrix.save_map(tmp_path / "map.png")
    matrix.save_mds(tmp_path / "mds.png")
    assert (tmp_path / "map.png").read_bytes() == (tmp_path / "mds.png").read_bytes()


@pytest.mark.parametrize("command", [("matrix", "--file"), ("nearest", "a", "--candidates")])
def test_files_of_texts_without_end_are_refused(tmp_path, conjure_command, command):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        code, out, err = conjure_command(*command, path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "not a regular file" in err
    (tmp_path / "large").write_bytes(b"a" * (10**6 + 1))
    code, out, err = conjure_command(*command, tmp_path / "large", "--max-file-mb", 1)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "has more than 1 MB" in err


def test_lines_of_a_file_end_as_in_editors(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("a\u2028b\nc\x85d\r\ne\x0cf\r\u2029g", newline="")
    assert read_groups(path) == [["a\u2028b", "c\x85d", "e\x0cf", "g"]]


def test_formulas_and_controls_of_the_csv(default_process, conjure_command, monkeypatch):
    arguments = ("matrix", "=1+1", "a\x1b[2Jb", "--steps", 1, "--samples", 1, "--csv")
    assert conjure_command(*arguments)[1].splitlines()[0] == ",'=1+1,a\x1b[2Jb"
    assert conjure_command(*arguments, "--raw-texts")[1].splitlines()[0] == ",=1+1,a\x1b[2Jb"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for option in ((), ("--raw-texts",)):
        assert "\x1b" not in conjure_command(*arguments, *option)[1]
    assert conjure_command(*arguments[:-1], "--raw-texts")[0] == 2


def test_the_number_of_texts_is_limited(default_process):
    with pytest.raises(InputError, match="a matrix of 300,000 texts; give at most 5,000, or some of its pairs"):
        conjure.matrix(default_process, (str(number) for number in range(300_000)))


def test_the_tree_of_long_texts_has_their_beginnings(conjure_command, tmp_path, tiny_sd):
    path = tmp_path / "texts.txt"
    path.write_text(f"{'long ' * 2_000}\nsun\nmoon\n")
    code, out, _ = conjure_command("matrix", "--file", path, "--model", tiny_sd, "--steps", 1, "--samples", 1)
    assert code == 0
    assert out.count("long") < 200
