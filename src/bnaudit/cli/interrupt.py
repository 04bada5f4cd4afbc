"""What Ctrl-C does: one line and exit code 130, at whatever moment. Imports next to nothing."""

from __future__ import annotations

import atexit
import os
import signal
import sys

EXIT_INTERRUPTED = 130
_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupt:
    """The handler of SIGINT, as long as the process lives.

    It is KeyboardInterrupt where Python code can end in order. Inside an import it is not: the exception may
    be lost there, or leave a library half imported (numpy), or abort the process where C++ calls Python.
    There the process leaves at once, and so it does when somebody asks twice.
    """

    def __init__(self) -> None:
        self.asked = False
        # A process that is started in the background ignores it, and goes on doing so.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)

    def __call__(self, _: int, frame: object) -> None:
        """Raises KeyboardInterrupt, or leaves."""
        again, self.asked = self.asked, True
        while frame is not None and not again:
            again = frame.f_code.co_filename.startswith("<frozen importlib")  # type: ignore[attr-defined]
            frame = frame.f_back  # type: ignore[attr-defined]
        if again:
            self.leave()
        raise KeyboardInterrupt

    def end(self, code: int) -> None:
        """Ends the process as `sys.exit` does, but for the modules' teardown.

        That takes PyTorch half a second without any handler, and frees what ends with the process.

        Args:
            code: of the command; where the exception was lost on the way, 130 instead.
        """
        if self.asked and code != EXIT_INTERRUPTED:
            self.leave()
        self.asked = True
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):  # told before, or closed
                pass
        os._exit(code)

    @staticmethod
    def leave() -> None:
        """Ends the process at once; a progress bar's cursor comes back."""
        try:
            os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + b"interrupted\n")
        finally:
            os._exit(EXIT_INTERRUPTED)
