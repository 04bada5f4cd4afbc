"""The file of rows: whole lines alone, whatever happens; the last row of an entry counts."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bnaudit.errors import InputError, RunError, UsageError
from bnaudit.fleet.results import SCHEMA, Results

if TYPE_CHECKING:
    from pathlib import Path


def line(entry: str, number: int = 0, size: int = 0) -> bytes:
    return (
        json.dumps({"schema": SCHEMA, "entry": entry, "n": number, "x": "x" * size}).encode()
        + b"\n"
    )


def filled(path: Path, *lines: bytes) -> Results:
    results = Results(path, write=True)
    for text in lines:
        results.add(json.loads(text)["entry"], text)
    return results


def test_rows_come_back_and_the_last_of_an_entry_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    filled(path, line("a", 1), line("b", 2), line("a", 3)).close()
    with closing(Results(path, write=False)) as results:
        assert [(row["entry"], row["n"]) for row in results.rows()] == [("b", 2), ("a", 3)]
        assert results.row("a") == json.loads(line("a", 3))
        assert results.row("c") is None


def test_lines_longer_than_a_block_come_back(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = [line("a", 1, 3 << 20), line("b", 2), line("c", 3, (1 << 20) - 7), line("d", 4)]
    filled(path, *lines).close()
    with closing(Results(path, write=False)) as results:
        assert list(results.rows()) == [json.loads(text) for text in lines]
        assert results.row("d") == json.loads(line("d", 4))


@pytest.mark.parametrize("cut", [1, 10, len(line("b")) - 1])
def test_a_row_in_flight_is_removed_by_the_next_run(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(line("a") + line("b")[:cut])
    with closing(Results(path, write=False)) as results:  # a look changes nothing
        assert list(results.places) == ["a"]
    assert path.read_bytes() == line("a") + line("b")[:cut]
    with closing(Results(path, write=True)) as results:
        results.add("b", line("b"))
    assert path.read_bytes() == line("a") + line("b")


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with closing(Results(path, write=True)):
        with pytest.raises(UsageError, match="another `bnaudit fleet` writes it"):
            Results(path, write=True)
        Results(path, write=False).close()
    Results(path, write=True).close()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"hello\n", InputError),
        (b"[]\n", UsageError),
        (b'{"schema": "bnaudit.report/1"}\n', UsageError),
    ],
)
def test_another_file_is_refused_and_stays(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(error, match=r"r\.jsonl"):
        Results(path, write=True)
    assert path.read_bytes() == content


def test_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError, match="not a regular file"):
            Results(path, write=True)


def test_a_full_disk_leaves_whole_rows_and_says_so(tmp_path: Path) -> None:
    """A limit of the file's size stands for a full disk: a write is cut short, and the next fails."""
    path = tmp_path / "r.jsonl"
    code = "import sys, pathlib; from tests.fleet.test_results import full; full(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == line("a", 1, 500)


def full(path: Path) -> None:
    """Runs out of room in the second row."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    with closing(filled(path, line("a", 1, 500))) as results:
        with pytest.raises(RunError, match="cannot be written") as caught:
            results.add("b", line("b", 2, 500))
        assert "goes on from there" in str(caught.value.hint)
        assert list(results.places) == ["a"]
