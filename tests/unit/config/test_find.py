"""Which file is read, what its paths start from, and that its absence is harmless."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnaudit.config import NO_CONFIG, load_config
from bnaudit.errors import ConfigError

PYPROJECT = '[tool.bnaudit]\nmode = "running"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a folder in it, which is the working directory."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    return tmp_path


def test_none_is_harmless(project: Path) -> None:
    assert load_config() == NO_CONFIG
    (project / "pyproject.toml").write_text('[project]\nname = "bnaudit-user"\n')
    assert load_config() == NO_CONFIG


def test_the_nearest_wins_and_yaml_before_pyproject(project: Path) -> None:
    (project / "pyproject.toml").write_text(PYPROJECT)
    assert load_config().path == "../pyproject.toml"
    assert load_config().get("mode") == "running"
    (project / "bnaudit.yml").write_text("seed: 2")
    config = load_config()
    assert (config.path, config.get("seed"), config.get("mode")) == ("../bnaudit.yml", 2, "batch")
    assert config.notes == ("../bnaudit.yml is read, ../pyproject.toml is not",)
    (project / "bnaudit.yaml").write_text("seed: 3")
    assert load_config().get("seed") == 3
    assert len(load_config().notes) == 2
    (project / "models" / "bnaudit.yaml").write_text("")
    config = load_config()
    assert (config.path, config.settings, config.notes) == ("bnaudit.yaml", {}, ())


def test_nothing_above_the_repository_or_a_bare_folder(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "bnaudit.yaml").write_text("seed: 3")
    (project / "models" / ".git").write_text("gitdir: elsewhere")
    assert load_config() == NO_CONFIG
    (project / "models" / ".git").unlink()
    (project / ".git").rmdir()
    assert load_config() == NO_CONFIG
    monkeypatch.chdir(project)
    assert load_config().get("seed") == 3


def test_paths_start_from_the_file(project: Path) -> None:
    (project / "data").mkdir()
    (project / "labels.npy").write_bytes(b"")
    (project / "bnaudit.yaml").write_text(
        "data: [data/a.npz, x=b.npy, load.py:rows, /abs.npz]\nlabels: labels.npy\n"
        "loss: loss.py:focal\noutput: out/r.json"
    )
    config = load_config()
    assert config.get("data") == ("../data/a.npz", "x=../b.npy", "../load.py:rows", "/abs.npz")
    assert config.get("labels") == "../labels.npy"
    assert config.get("loss") == "../loss.py:focal"
    assert config.get("output") == ("../out/r.json",)
    (project / "bnaudit.yaml").write_text("labels: y\nloss: mse")
    assert (load_config().get("labels"), load_config().get("loss")) == ("y", "mse")


def test_a_named_file(project: Path) -> None:
    (project / "ci.yaml").write_text("data: a.npz")
    config = load_config(Path("../ci.yaml"))
    assert (config.path, config.get("data")) == ("../ci.yaml", ("../a.npz",))
    (project / "models" / "other.toml").write_text(PYPROJECT)
    assert load_config(Path("other.toml")).get("mode") == "running"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.yaml", None, "missing.yaml: no such file"),
        (".", None, r"\.: cannot be read \(is a folder\)"),
        ("latin.yaml", b"# caf\xe9", "latin.yaml:1: not UTF-8"),
        ("latin.yaml", b"seed: 1\n# caf\xe9", "latin.yaml:2: not UTF-8"),
        ("zeros.yaml", b"\0" * 100, "zeros.yaml: not valid YAML"),
        ("large.yaml", b"#" * (2**20 + 1), "large.yaml: larger than"),
        ("c.toml", b"[tool.other]", r"c.toml: has no table \[tool.bnaudit\]"),
        ("c.toml", b"[tool.bnaudit]\nseed =", "c.toml:2: not valid TOML: Invalid value"),
        ("c.toml", b"[tool.bnaudit]\nseed = 'x'", "c.toml:2: seed has to be a whole number"),
        ("c.toml", b"[tool]\nbnaudit = 3", "c.toml:2: the configuration has to be a mapping"),
        ("c.toml", b"[tool.bnaudit]\nlabels = 2024-01-01\nseed=[\n'']", "c.toml:3: seed has"),
    ],
)
def test_what_cannot_be_read(project: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_config(Path(name))


def test_a_broken_pyproject_of_somebody_else_is_not_ours(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.other\n# bnaudit is used in CI")
    assert load_config() == NO_CONFIG
    (project / "pyproject.toml").write_text("[tool.bnaudit\n")
    with pytest.raises(ConfigError, match=r"^\.\./pyproject.toml:1: not valid TOML"):
        load_config()


@pytest.mark.parametrize(
    "text",
    [
        "[tool.bnaudit]\nseed = 7",
        '[ "tool" . bnaudit ]\nseed = 7',
        "[tool]\nbnaudit = {seed = 7}",
        "[tool]\nbnaudit.seed = 7",
        "tool.bnaudit.seed = 7",
        "tool = {bnaudit = {seed = 7}}",
    ],
)
def test_every_way_to_write_the_table(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text)
    assert load_config().get("seed") == 7


def test_a_byte_order_mark_is_no_part_of_the_first_key(project: Path) -> None:
    Path("bnaudit.yaml").write_bytes(b"\xef\xbb\xbfseed: 4\r\nbatches: 2\r\n")
    assert (load_config().get("seed"), load_config().get("batches")) == (4, 2)
