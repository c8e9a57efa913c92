"""An answer while it is written: for clients of the service that ask for a stream, and for the app's chat."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from queue import SimpleQueue

from vlm_ft.answers.task import Values
from vlm_ft.inference.request import Attributed, Predictor, Request


def streamed(predictor: Predictor, request: Request) -> Iterator[Values | Attributed]:
    """The values of an answer so far, each time a text in it has grown, and the answer at the end.

    Raises what `Predictor.predict` raises. If the caller stops early, the answer is still finished and logged.
    """
    states = SimpleQueue[Values | None]()
    asked, pool = [replace(request, on_text=states.put)], ThreadPoolExecutor(1)
    answers = pool.submit(copy_context().run, predictor.predict, asked)  # the log reads who asks from the context
    pool.shutdown(wait=False)
    answers.add_done_callback(lambda _: states.put(None))
    while (values := states.get()) is not None:
        yield values
    yield answers.result()[0]
