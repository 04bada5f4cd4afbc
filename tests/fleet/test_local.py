"""The local engine: a process a model at a time, and every way in which one ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from bnaudit.fleet import local, machine
from bnaudit.fleet.engine import Ended, Job, Plan, Result, Task

from .targets import TARGET


def tasks(*names: str, **own: Any) -> list[Task]:
    return [Task(str(place), name, own) for place, name in enumerate(names)]


def ran(given: list[Task], plan: Plan, **options: Any) -> dict[str, Any]:
    found = list(local.results(given, Job(TARGET, options, {}), plan))
    assert sorted(result.task.entry for result in found) == sorted(task.entry for task in given)
    return {result.task.model: result.payload for result in found}


def test_each_task_has_one_result_and_no_process_is_this_one() -> None:
    found = ran(tasks("a", "b", "c", "d"), Plan(jobs=2))
    pids = {payload[2] for payload in found.values()}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2, "processes are used again"
    assert {payload[:2] for payload in found.values()} == {("done", n) for n in "abcd"}


@pytest.mark.parametrize("reuse", [1, 2])
def test_a_process_is_used_as_often_as_it_may(reuse: int) -> None:
    found = ran(tasks("a", "b", "c", "d"), Plan(jobs=1, reuse=reuse))
    assert len({payload[2] for payload in found.values()}) == 4 // reuse


def test_a_process_that_ran_code_of_the_users_is_not_used_again() -> None:
    given = [Task("0", "a", {}, runs_code=True), Task("1", "b", {})]
    assert len({payload[2] for payload in ran(given, Plan(jobs=1)).values()}) == 2


def test_ends_of_all_kinds_are_told_and_stop_nothing() -> None:
    found = ran(
        tasks("a", "exit 7", "signal SIGSEGV", "signal SIGKILL", "once", "b"), Plan(jobs=2, tries=3)
    )
    assert found["a"][0] == found["b"][0] == "done"
    seven, fault, killed = (found[n] for n in ("exit 7", "signal SIGSEGV", "signal SIGKILL"))
    assert isinstance(seven, Ended)
    assert isinstance(fault, Ended)
    assert isinstance(killed, Ended)
    assert (seven.outcome, fault.outcome, killed.outcome) == ("crashed", "crashed", "killed")
    assert "exit code 7" in seven.reason
    assert fault.reason.endswith("(SIGSEGV): about to fail")
    assert found["once"] == ("tried again", 2)


def test_a_killed_task_is_tried_as_often_as_the_plan_says() -> None:
    (result,) = local.results(tasks("signal SIGKILL"), Job(TARGET, {}, {}), Plan(jobs=1, tries=2))
    assert result.task.attempt == 2


def test_a_hanging_model_ends_with_its_time() -> None:
    start = time.monotonic()
    found = ran([*tasks("a"), Task("hang", "hang", {"timeout": 1})], Plan(jobs=2))
    assert found["hang"].outcome == "timeout"
    assert found["hang"].reason == "not done within --timeout 1 (seconds)"
    assert 1 <= found["hang"].seconds < 5
    assert time.monotonic() - start < 60


def test_a_model_that_takes_too_much_ends() -> None:
    here = machine.resident() or 0
    assert here
    given = [Task("m", f"memory {3 * 10**9}", {"max_memory": "1500MB"}), *tasks("a")]
    found = ran(given, Plan(jobs=1), timeout=120)
    assert found[f"memory {3 * 10**9}"].outcome == "memory"
    assert found["a"][0] == "done"


def test_threads_are_divided_fairly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.fair_threads(Plan(threads=3), 2) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert local.fair_threads(Plan(), 2) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(local, "processors", lambda: 16)
    assert [local.fair_threads(Plan(), n) for n in (1, 3, 16, 32)] == [16, 5, 1, 1]
    assert ran(tasks("threads"), Plan(jobs=1, threads=3)) == {"threads": 3}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_whoever_closes_the_results_ends_the_processes(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    found = local.results(tasks("a", f"mark {mark}"), Job(TARGET, {}, {}), Plan(jobs=2))
    first: Result = next(found)
    assert first.task.model == "a"
    deadline = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = int(mark.read_text())
    assert alive(pid)
    found.close()  # type: ignore[attr-defined]
    assert not alive(pid)
