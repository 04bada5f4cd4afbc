"""What docs/ci.md, action.yml and the pre-commit hooks show has to be what those systems take."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jq
import jsonschema
import pytest
import yaml

from bnaudit.cli import COMMANDS, run

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


def test_hooks_run_commands_that_exist() -> None:
    hooks = loaded((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    for hook in hooks:
        assert hook["entry"].split()[0] == "bnaudit"
        assert hook["entry"].split()[1] in COMMANDS
        assert re.compile(hook["files"]).search("a/model.onnx")
        assert not re.compile(hook["files"]).search("onnx.py")
    shown = [h["id"] for b in blocks("yaml pre-commit") for h in loaded(b)["repos"][0]["hooks"]]
    assert set(shown) <= {hook["id"] for hook in hooks}
