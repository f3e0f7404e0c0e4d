"""Where the gateway can be made to die, for the kill tests: `GATEWAY_FAILPOINT=confirm:after_call`.

hold, confirm, cancel, fence    before_call: the outbox row is committed, nothing is sent
                                after_call: the answer is here, and not stored
                                stored: it is stored, and the client not answered
event                           stored: a webhook is stored, and not applied
                                applied: it is applied, and the partner not answered
webhook                         before_call: a delivery is leased, nothing is sent
                                after_call: the merchant has answered, and it is not stored
                                stored: it is stored
job                             before_call: a job is leased, and not begun
                                after_call: its work is done, and it is not marked so
                                stored: it is marked
"""

import os
import signal

from gateway.settings import Settings


def reached(settings: Settings, verb: str, point: str) -> None:
    """Die here by SIGKILL, if the sandbox's settings say so."""
    if settings.sandbox and settings.failpoint == f"{verb}:{point}":
        os.kill(os.getpid(), signal.SIGKILL)
