"""Many processes without a launcher: children of the test, which has everything imported already."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from typing import Any


def forked(processes: int, function: Callable[[], Any]) -> list[int]:
    """Call a function in that many processes, each with what `torchrun` would tell it; their exit codes by rank.

    An error with an `exit_code` ends its process with that code, as the command line does; any other with 1.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(processes),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
                GLOO_SOCKET_IFNAME="lo",
            )
            code = 1
            try:
                function()
                code = 0
            except BaseException as error:
                code = getattr(error, "exit_code", 1)
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
