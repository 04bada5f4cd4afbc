"""-o report.html, .svg and .png: what is written, and what is told where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnaudit.render.figures import FIGURES, figures_of
from bnaudit.render.figures.figure import Figure, along, rows_of
from bnaudit.render.pictures import document_to_png, document_to_svg
from tests.cli.conftest import MLP, Outcome, cli  # noqa: F401  # a fixture
from tests.pages.samples import DOCUMENTS, deep, renamed
from tests.unit.render import samples

if TYPE_CHECKING:
    from collections.abc import Callable

    Cli = Callable[..., Outcome]

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    "args",
    [
        ("check", MLP / "model.onnx", "--data", MLP / "batch.npz"),
        ("inspect", MLP / "model.onnx"),
        ("diff", MLP / "model.onnx", MLP / "scripted.pt"),
        ("init", MLP / "start.pt", MLP / "model.onnx"),
    ],
)
def test_each_command_writes_all_three(cli: Cli, tmp_path: Path, args: tuple[object, ...]) -> None:  # noqa: F811
    files = [tmp_path / f"x.{suffix}" for suffix in ("html", "svg", "png")]
    outcome = cli(*args, "-q", "--format", "none", *(word for f in files for word in ("-o", f)))
    assert (outcome.out, outcome.err) == ("", "")
    page, svg, png = (file.read_bytes() for file in files)
    assert page.startswith(b"<!DOCTYPE html>")
    assert f"<h1>bnaudit {args[0]}</h1>".encode() in page
    assert page.count(b"<figure") >= 1
    assert svg.startswith(b"<svg ")
    assert b'fill="white"' in svg  # it stands by itself, on pages of any colour
    assert png.startswith(PNG)


def test_a_recalibration_writes_its_report(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "x.html"
    model, data = MLP / "model.onnx", MLP / "batch.npz"
    outcome = cli("recalibrate", model, "--data", data, "--dry-run", "--report", path, "-q")
    assert outcome.code in {0, 4}
    assert "<h1>bnaudit recalibrate</h1>" in path.read_text()


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.png"])
def test_without_the_extra_one_line_names_it(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr("bnaudit.render.figures.draw.find_spec", lambda name: None)
    monkeypatch.setattr("bnaudit.inspecting.inspect", None)  # nothing is read before
    outcome = cli("inspect", MLP / "model.onnx", "-o", tmp_path / name)
    assert outcome.lines == [
        f"error: {name[2:]} needs vl-convert-python, which is not installed",
        "hint: pip install 'bnaudit[report]'",
    ]
    assert (outcome.code, outcome.out, list(tmp_path.iterdir())) == (2, "", [])


def test_a_target_that_cannot_be_written_stays_as_it_was(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page, other = tmp_path / "x.html", tmp_path / "y.html"
    page.write_text("before")

    def full(path: Path, data: str | bytes) -> None:
        if path == page:
            raise OSError(28, "No space left on device")
        path.write_text(str(data))

    monkeypatch.setattr("bnaudit.cli.present.write_whole", full)
    outcome = cli("inspect", MLP / "model.onnx", "-o", page, "-o", other, "--format", "none")
    assert outcome.lines[0] == f"error: {page}: cannot be written (No space left on device)"
    assert outcome.code == 2
    assert page.read_text() == "before"
    assert other.read_text().startswith("<!DOCTYPE html>")
    missing = tmp_path / "no" / "x.html"
    outcome = cli("inspect", MLP / "model.onnx", "-o", missing)
    assert "cannot be written: no such folder" in outcome.err


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_has_a_picture(name: str) -> None:
    svg = str(document_to_svg(DOCUMENTS[name]()))
    assert svg == document_to_svg(DOCUMENTS[name]())
    assert svg.startswith("<svg ")
    assert "NaN" not in svg
    empty = {"no-batchnorm", "not-run", "not-finite", "folded"}
    assert ("no layer has numbers to draw" in svg) is (name in empty)


def test_a_png_is_drawn_of_the_same() -> None:
    assert document_to_png(samples.everything())[:8] == PNG


def test_each_module_of_figures_is_listed() -> None:
    folder = Path(__file__).parents[2] / "src" / "bnaudit" / "render" / "figures"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "figure", "draw"}
    assert set(FIGURES.values()) == modules


def by_title(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.title: figure for figure in figures}


def test_the_numbers_that_are_drawn_are_those_of_the_report() -> None:
    report = samples.everything()
    figures = by_title(figures_of(report))
    main = next(iter(figures.values()))
    assert [row["name"] for row in main.rows] == [layer.label for layer in report.layers]
    gains = [layer.gain_batch for layer in report.layers]
    assert [(r["low"], r["middle"], r["high"]) for r in main.rows] == [
        (g.minimum.median, g.median.median, g.maximum.median)  # type: ignore[union-attr]
        for g in gains
    ]
    orders = [layer.first_order for layer in report.layers]
    assert [(r["theory"], r["found"]) for r in figures["Predicted against measured"].rows] == [
        (o.predicted.median, o.measured.median)  # type: ignore[union-attr]
        for o in orders
    ]
    norms = [r["middle"] for r in figures["Gradient norm over the depth"].rows]
    assert norms == [
        *(o.grad_out_norm.median for o in orders),  # type: ignore[union-attr]
        *(o.grad_in_norm.median for o in orders),  # type: ignore[union-attr]
    ]
    curved = figures["Curvature of the loss along the gradient"].rows
    assert [r["rho"] for r in curved] == [
        layer.second_order.rayleigh.median  # type: ignore[union-attr]
        for layer in report.layers
    ]


def test_layers_whose_numbers_are_not_trusted_are_not_drawn() -> None:
    report = DOCUMENTS["sick"]()
    failed = {layer.label for layer in report.layers if layer.integrity_failed}
    assert failed
    drawn = by_title(figures_of(report))["Predicted against measured"].rows
    assert not failed & {row["name"] for row in drawn}


def test_names_stand_below_few_layers_and_numbers_below_many() -> None:
    few = rows_of([(f"a'b\\{n}", n) for n in range(40)], lambda _, n: {"y": n})
    assert along(few)["type"] == "ordinal"
    assert along([*few, {"n": 41, "name": "x"}])["type"] == "quantitative"
    # Quotes and backslashes of a name end no text of Vega's expressions.
    svg = str(document_to_svg(renamed(samples.healthy(), "a'\\\"]+datum")))
    assert svg.count("a'\\&quot;]+") + svg.count("a'\\\"]+") >= 10
    assert "1,000" not in str(document_to_svg(deep(200)))
