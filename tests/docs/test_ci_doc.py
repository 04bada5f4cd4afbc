"""What docs/ci.md, action.yml and the pre-commit hooks show has to be what those systems take."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jq
import jsonschema
import pytest
import yaml

from bnaudit.cli import run
from bnaudit.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
MODEL = "fixtures/digits_resnet/model.onnx"
DATA = "fixtures/digits_resnet/batch.npz"


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found, kind
    return found


def loaded(text: str) -> Any:
    return yaml.load(text, Loader=yaml.BaseLoader)  # "on" is a word, not a truth


def published(name: str) -> Any:
    """A schema as its owner publishes it, in the copy that check-jsonschema carries."""
    folder = files("check_jsonschema").joinpath("builtin_schemas/vendor")
    return json.loads(folder.joinpath(f"{name}.json").read_text("utf-8"))


def valid(document: Any, schema: str) -> None:
    jsonschema.validators.validator_for(published(schema))(published(schema)).validate(document)


@pytest.fixture(scope="module")
def report() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        out = Path.cwd() / ".report-of-the-docs.json"
        try:
            args = ["check", MODEL, "--data", DATA, "-m", "first_order,statistics"]
            assert run([*args, "-q", "--format", "none", "-o", str(out)]) == 0
            return out.read_text(encoding="utf-8")
        finally:
            out.unlink(missing_ok=True)


@pytest.mark.parametrize("program", blocks("jq"))
def test_jq_programs_find_what_they_name(program: str, report: str) -> None:
    answers = jq.compile(program.strip()).input_text(report).all()
    assert answers
    assert None not in answers
    if program.startswith(".summary"):
        assert answers[0]["layers"] == 10


@pytest.mark.parametrize("text", blocks("yaml github-workflow"))
def test_workflows_are_workflows(text: str) -> None:
    workflow = yaml.safe_load(re.sub("^on:", '"on":', text, flags=re.MULTILINE))
    valid(workflow, "github-workflows")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    action = loaded((ROOT / "action.yml").read_text(encoding="utf-8"))
    for step in steps:
        if "OWNER/bnaudit" in step.get("uses", ""):
            assert set(step["with"]) <= set(action["inputs"])


@pytest.mark.parametrize("text", blocks("yaml gitlab-ci"))
def test_gitlab_jobs_are_gitlab_jobs(text: str) -> None:
    valid(yaml.safe_load(text), "gitlab-ci")


def test_the_action_is_an_action() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    valid(document, "github-actions")
    scripts = [step["run"] for step in document["runs"]["steps"] if "run" in step]
    assert scripts
    # An expression inside a script is code from whoever opened the pull request.
    assert not [script for script in scripts if "${{" in script]
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    assert used == set(document["inputs"])


@pytest.mark.parametrize(
    ("inputs", "code", "told"),
    [
        ({"MODEL": "my nets/a, b.onnx"}, 0, "bnaudit: PASS"),
        (
            {"MODEL": "my nets/a, b.onnx", "ARGS": "--select BN0\\n--layers 'no such'"},
            2,
            "'no such'",
        ),
        ({"MODEL": "my nets/none.onnx"}, 2, "title=bnaudit failed::"),
        ({"MODEL": "-x.onnx", "ARGS": "--allow-no-bn"}, 0, "bnaudit: PASS"),
        ({"MODEL": "-x.onnx"}, 3, "title=BN001 no-batchnorm::"),
    ],
)
def test_the_script_of_the_action(
    tmp_path: Path, inputs: dict[str, str], code: int, told: str
) -> None:
    """As a runner executes it, with paths that no shell may take apart."""
    steps = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
    (script,) = [step["run"] for step in steps if step.get("id") == "audit"]
    programs = tmp_path / "run ner" / "bnaudit" / "bin"
    programs.mkdir(parents=True)
    (tmp_path / "my nets").mkdir()
    shutil.copy(ROOT / "fixtures/digits_resnet/dynamo.onnx", tmp_path / "my nets" / "a, b.onnx")
    shutil.copy(ROOT / "fixtures/digits_resnet/folded.onnx", tmp_path / "-x.onnx")
    for name, line in (("bnaudit", f'"{sys.executable}" -m bnaudit'), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    given = {"COMMAND": "inspect", "ARGS": "", "SARIF": "my nets/r", "JSON": "r.json", **inputs}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=os.environ
        | {
            **{name: text.replace("\\n", "\n") for name, text in given.items()},
            "PYTHONPATH": str(ROOT / "src"),
            "RUNNER_TEMP": str(tmp_path / "run ner"),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert told in done.stdout
    assert (tmp_path / "output").read_text() == f"exit-code={code}\n"
    assert (tmp_path / "summary").read_text(encoding="utf-8").startswith("### bnaudit: ")
    assert (tmp_path / "my nets" / "r").is_file() is (code != 2)


def test_hooks_run_commands_that_exist() -> None:
    hooks = loaded((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    for hook in hooks:
        assert hook["entry"].split()[0] == "bnaudit"
        assert hook["entry"].split()[1] in COMMANDS
        assert re.compile(hook["files"]).search("a/model.onnx")
        assert not re.compile(hook["files"]).search("onnx.py")
    inspected = re.compile(next(h["files"] for h in hooks if h["id"] == "bnaudit-inspect"))
    taken = ["a.pth", "a/b.ckpt", "a.safetensors", "pytorch_model.bin", "x/model-00001-of-2.bin"]
    assert all(inspected.search(name) for name in taken)
    assert not inspected.search("firmware.bin")
    shown = [h["id"] for b in blocks("yaml pre-commit") for h in loaded(b)["repos"][0]["hooks"]]
    assert set(shown) <= {hook["id"] for hook in hooks}
