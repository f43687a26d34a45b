"""A process that is timed by turns: told on its input what to do and for how long.

One line of JSON per message. It says what it is once it is warm; to {"what": …, "seconds": …} it
answers with how often it did that, and the seconds it took. It ends with its input. Nothing but the
standard library is imported, so that other environments can use it.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Tasks = Mapping[str, tuple[Callable[[], Any], int]]
"""What can be done: name -> function, and how often a call of it counts."""


def serve(prepare: Callable[[], tuple[Tasks, dict[str, Any]]]) -> None:
    """Answer until the input ends.

    Args:
        prepare: makes the tasks, warm, and what to say about them.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes elsewhere

    def answer(**content: Any) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(json.dumps(content | {"memory_MiB": memory}), file=answers, flush=True)

    tasks, about = prepare()
    answer(**about)
    for line in sys.stdin:
        request = json.loads(line)
        function, counts = tasks[request["what"]]
        function()
        done, began = 0, time.perf_counter()
        until = began + request["seconds"]
        while time.perf_counter() < until:
            function()
            done += counts
        answer(count=done, seconds=time.perf_counter() - began)
