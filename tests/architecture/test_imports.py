"""What imports what: frameworks only where they are needed, layers only downwards."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "bnaudit"
FRAMEWORKS = ("torch", "onnx", "onnx2torch", "numpy", "rich", "yaml", "jsonschema", "vl_convert")
MODULES = sorted(SRC.rglob("*.py"))

# Each layer, and the layers that it may use besides itself and the modules at the top.
LAYERS: dict[str, set[str]] = {
    "records": set(),
    "summary": {"records"},
    "judge": {"records", "summary"},
    "render": {"records", "summary", "judge"},
    "load": {"tap"},
    "inspection": {"load", "records", "tap"},
    "tap": {"records"},
    "data": {"load", "records", "measure", "tap"},
    "matching": {"data", "load", "measure", "tap", "records"},
    "measure": {"data", "load", "tap", "records"},
    "initialisation": {"data", "load", "measure", "tap", "records"},
    "recalibration": {"data", "inspection", "load", "measure", "tap", "records"},
    "compare": {"records", "summary"},
    "runs": {"inspection", "judge", "load", "records", "render", "summary"},
    "watching": {"measure", "records", "render", "runs", "tap"},
    "fleet": {"config", "inspection", "load", "records", "render", "summary"},
    "config": {"judge", "records", "render"},
    "cli": {
        "compare",
        "config",
        "fleet",
        "inspection",
        "load",
        "records",
        "render",
        "judge",
        "initialisation",
        "runs",
    },
}
"""`load.batchnorms` asks `tap.scripted` what a
scripted BatchNorm looks like; `config` takes the names of formats from `render`; `data.row_check`
runs the model as `measure` does."""


def loaded_by(code: str) -> set[str]:
    """The frameworks in `sys.modules` after this code has run in a process of its own."""
    script = f"import sys\n{code}\nprint(*[m for m in {FRAMEWORKS!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SRC.parent)},
    )
    return set(done.stdout.splitlines()[-1].split())


FIXTURES = SRC.parents[1] / "fixtures" / "digits_resnet"
FOLDED, MODEL = str(FIXTURES / "folded.onnx"), str(FIXTURES / "dynamo.onnx")
RUN = "from bnaudit.cli import run\nassert run({args!r}) == {code}"
FLEET = (
    "import tempfile\nfrom bnaudit.cli import run\nwith tempfile.TemporaryDirectory() as folder:\n"
    "    assert run({args!r} + [folder + '/fleet.jsonl']) == {code}"
)


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import bnaudit; bnaudit.__version__; dir(bnaudit)", set()),
        ("import bnaudit.cli.check", set()),
        (RUN.format(args=["--help"], code=0), set()),
        (RUN.format(args=["--version"], code=0), set()),
        (RUN.format(args=["check", "--help"], code=0), set()),
        (RUN.format(args=["schema"], code=0), set()),
        (RUN.format(args=["rules"], code=0), set()),
        (RUN.format(args=["rules", "--json"], code=0), set()),
        (RUN.format(args=["rules", "--format", "markdown"], code=0), set()),
        (RUN.format(args=["explain", "BN009", "no-batchnorm"], code=0), set()),
        (RUN.format(args=["check", "nosuch.onnx"], code=2), set()),
        (RUN.format(args=["schema", "config"], code=0), set()),
        (RUN.format(args=["config", "--no-config"], code=0), {"yaml"}),
        (RUN.format(args=["diff", "nosuch.json", "nosuch.json"], code=2), set()),
        (RUN.format(args=["check", "--bogus"], code=2), set()),
        ("import bnaudit.judge.verdicts, bnaudit.records.report, bnaudit.records.layer", set()),
        ("import bnaudit.render.formats, bnaudit.render.text, bnaudit.render.json_v1", set()),
        ("from bnaudit import AuditOptions, BnauditError, Report", set()),
        ("import bnaudit.load.sniff, bnaudit.load", set()),
        (RUN.format(args=["check", "pyproject.toml"], code=2), set()),
        (RUN.format(args=["inspect", "--help"], code=0), set()),
        (RUN.format(args=["inspect", FOLDED], code=3), {"rich"}),
        (RUN.format(args=["inspect", MODEL, "--format", "json"], code=0), set()),
        # who drives many audits runs none
        (FLEET.format(args=["fleet", FOLDED, "--results"], code=3), {"rich"}),
    ],
)
def test_frameworks_are_not_imported_before_they_are_needed(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed


def test_the_check_can_fail() -> None:
    assert loaded_by("import bnaudit.options, numpy") == {"numpy"}


def imports(path: Path, *, runtime: bool) -> set[str]:
    """Modules of bnaudit that a file imports; with `runtime`, not those for annotations only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and runtime:
            skipped |= {id(inner) for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_layers_use_what_is_below_them(path: Path) -> None:
    layer = path.relative_to(SRC).parts[0]
    if layer not in LAYERS:
        return
    used = {
        name.split(".")[1]
        for name in imports(path, runtime=True)
        if name.startswith("bnaudit.") and (SRC / name.split(".")[1]).is_dir()
    }
    assert used <= LAYERS[layer] | {layer}


@pytest.mark.parametrize("layer", ["records", "summary", "judge", "render"])
def test_tensors_stop_before_records(layer: str) -> None:
    for path in (SRC / layer).rglob("*.py"):
        tops = {name.split(".")[0] for name in imports(path, runtime=False)}
        assert not tops & {"torch", "numpy", "onnx"}, path


def test_every_layer_is_listed() -> None:
    folders = {p.name for p in SRC.iterdir() if (p / "__init__.py").exists()}
    assert folders <= set(LAYERS), "say in LAYERS what the new layer may use"


def import_graph() -> dict[str, set[str]]:
    """Module -> the modules of bnaudit that it names anywhere, for annotations too."""
    names = {
        ".".join(("bnaudit", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in MODULES
    }
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {name if name in names else str(node.module) for name in inner}
        graph[name] = found & names.keys() - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that lead to each other, by the definition: each is reached from each."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        waiting = [start]
        reached[start] = set()
        while waiting:
            for name in graph[waiting.pop()] - reached[start]:
                reached[start].add(name)
                waiting.append(name)
    groups = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }
    return [set(group) for group in groups]


def test_no_circle_of_imports() -> None:
    assert circles(import_graph()) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert circles(graph) == [{"b", "c"}]


def test_the_command_line_imports_no_framework_at_the_top() -> None:
    for path in (SRC / "cli").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        names = " ".join(ast.unparse(n) for n in top)
        assert not any(framework in names.split() for framework in FRAMEWORKS), path
