"""A command on a file, in a child process with limits: how it ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.fuzz.canary import FIRED
from bench.fuzz.targets import Target, beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KINDS = {
    "traceback": "tracebacks",
    "bug": "exit 70",
    "hang": "hangs over 60 s",
    "signal": "ended by a signal",
    "memory": "over the memory limit",
    "written": "files written",
    "canary": "canaries fired",
    "passed": "passed with impossible values",
}
_TOLD = {"BN006", "BN007"}
"""Rules that name such values; a variance below zero that eps still covers is a warning, and passes."""
_SECONDS = 60
_MEMORY = 1 << 30
"""Bytes beyond what the libraries take."""


def children(target: Target, files: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """How each file ended, in order: a kind, and what tells failures apart."""
    at = 0
    while at < len(files):
        ended = yield from _child(target, files[at:])
        at += ended


def judged(target: Target, name: str, content: bytes) -> tuple[str, str]:
    """How one file ended."""
    return next(iter(children(target, [(name, content)])))


def _child(target: Target, files: Sequence[tuple[str, bytes]]) -> Any:
    """Tries files until one ends the child; the number of those that are told."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as out:
            try:
                _limited(folder)
                for name, content in files:
                    signal.setitimer(signal.ITIMER_REAL, 4 * _SECONDS)
                    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
                    out.write(json.dumps(_tried(target, folder, name, content)) + "\n")
                    out.flush()
            finally:
                os._exit(0)
    os.close(writer)
    count = 0
    with os.fdopen(reader) as lines:
        for line in lines:
            count += 1
            yield tuple(json.loads(line))
    _, status = os.waitpid(pid, 0)
    shutil.rmtree(folder, ignore_errors=True)
    if count < len(files):
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        hung = number in {signal.SIGALRM, signal.SIGPROF}
        yield ("hang" if hung else "signal", "" if hung else f"signal {number}")
        count += 1
    return count


def _limited(folder: Path) -> None:
    beside(folder)
    os.chdir(folder)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nothing, handle)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tried(target: Target, folder: Path, name: str, content: bytes) -> tuple[str, str]:
    from bnaudit.cli import commands

    where: list[str] = []

    def trace(_: list[str]) -> None:
        error = sys.exc_info()[1]
        frame = error.__traceback__ if error is not None else None
        lines = []
        while frame is not None:
            lines.append(f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}")
            frame = frame.tb_next
        where.append(f"{type(error).__name__}: {str(error)[:80]} at {' '.join(lines[-3:])}")

    commands._trace = trace  # type: ignore[assignment]
    file = folder / name
    before = {path.name for path in folder.iterdir()} | {name}
    file.write_bytes(content)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = commands.invoke([part.format(name) for part in target.args])
        except BaseException as error:  # SystemExit among them: invoke returns
            return "traceback", f"{type(error).__name__}: {error}"[:200]
    same = file.read_bytes() == content
    file.unlink()
    made = {path.name for path in folder.iterdir()} - before
    if FIRED in made:
        (folder / FIRED).unlink()
        return "canary", ""
    if made or not same:
        return "written", ", ".join(sorted(made))[:200]
    return _ending(code, out.getvalue(), err.getvalue(), where)


def _ending(code: int, out: str, err: str, where: list[str]) -> tuple[str, str]:
    if code == 70:
        return "bug", where[-1] if where else err[:200]
    if "Traceback (most recent call last)" in err:
        return "traceback", err[-200:]
    if "more memory than there is" in err or "not enough memory" in err:
        return "memory", where[-1] if where else err[:200]
    if code == 0 and out.startswith("{") and (odd := _impossible(json.loads(out))):
        return "passed", odd
    return f"exit {code}", ""


def _impossible(document: dict[str, Any]) -> str:
    """A layer whose values no BatchNorm has; they are not to pass."""
    if (
        document.get("schema") != "bnaudit.inspect/1"
        or {f["rule"] for f in document["findings"]} & _TOLD
    ):
        return ""
    for layer in document["layers"]:
        var, gain = layer.get("running_var") or {}, layer.get("gain") or {}
        values = [v for part in (layer.get("channel_values") or {}).values() for v in part or ()]
        if (
            (var.get("min") or 0) < 0
            or gain.get("not_finite")
            or any(isinstance(v, str) for v in values)
        ):
            return f"running_var {var}, gain {gain}"[:200]
    return ""
