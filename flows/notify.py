"""Failures of flows as messages to an address of yours: a Prefect automation, laid down once.

``python -m flowsr.flows.notify URL`` makes, or renews, the automation ``flowsr-failures`` of the server that
``PREFECT_API_URL`` names. When a flow run fails, crashes or runs out of time, the server posts JSON to URL: ``flow``,
``run``, ``state``, ``message``, and ``text``, the one line that Slack, Mattermost and their like show.
"""

from __future__ import annotations

import sys
from contextlib import suppress

NAME = "flowsr-failures"
PAYLOAD = """{"text": {{ (flow.name ~ ' / ' ~ flow_run.name ~ ': ' ~ flow_run.state.name ~ ': '
 ~ (flow_run.state.message or '')) | tojson }}, "flow": {{ flow.name | tojson }}, "run": {{ flow_run.name | tojson }},
 "state": {{ flow_run.state.name | tojson }}, "message": {{ (flow_run.state.message or '') | tojson }}}"""


def notify_failures(url: str) -> None:
    """Make the automation, in place of one of its name."""
    from prefect.automations import Automation
    from prefect.blocks.webhook import Webhook
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import EventTrigger, Posture

    block = Webhook(url=url).save(NAME, overwrite=True)
    trigger = EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
    )
    action = CallWebhook(block_document_id=block, payload=PAYLOAD)
    with suppress(ValueError):  # there is none
        Automation.read(name=NAME).delete()
    Automation(name=NAME, description="Failures of flowsr's flows", trigger=trigger, actions=[action]).create()


if __name__ == "__main__":
    notify_failures(sys.argv[1])
    print(f"failures are posted to {sys.argv[1]}")
