"""``python -m vlm_ft.cli.worker COMMAND ...``: the command line, killed when the service that started it ends.

The service holds the other end of standard input, which closes when its process ends, however that happens. SIGINT
stops the command, even if a script started the service in the background, where processes ignore SIGINT. The command
leaves the processors to the service whenever that needs them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from vlm_ft.cli import main

NICE = 10  # gets about a tenth of the time of a process of normal priority that wants the same processor


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written, so this returns when the other end closes
    os.kill(os.getpid(), signal.SIGKILL)  # a run and a ledger lose nothing by it


if __name__ == "__main__":
    os.nice(NICE)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()
