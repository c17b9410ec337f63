"""The jobs of flowsr as Prefect flows: schedules, retries, logs and artifacts around :mod:`flowsr.pipeline.stages`.

Importing this package sets what Prefect and torch read from the environment when they are imported in turn; a value
that is there already stays. The same is in ``prefect.toml`` for Prefect's own commands, which read it from the folder
that they are started in.
"""

import os

ENVIRONMENT = {
    # nothing is sent anywhere, and nothing waits for a network that is not there
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # the embedded server's first start fills a database; Prefect's own limit of 20 s is too short for a busy machine
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # idle threads that spin cost a busy machine dearly
    "OMP_WAIT_POLICY": "PASSIVE",
}

for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
