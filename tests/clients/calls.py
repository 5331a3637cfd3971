"""Calls a compute with the client that openapi-python-client generates: EXTERNAL, INTERNAL and TOKEN
are in the environment, and so is the CONFIGURATION to apply; its last role `pg_mine` cannot be
created."""

import json
import os
from datetime import datetime

from compute import AuthenticatedClient, Client
from compute.api.external import (
    check_compute_writability,
    configure_compute,
    get_autoscaling_metrics,
    get_compute_insights,
    get_compute_metrics,
    get_compute_metrics_json,
    get_compute_status,
    get_database_schema,
    get_dbs_and_roles,
    get_lfc_offload_state,
    get_lfc_prewarm_state,
    get_live,
    lfc_prewarm,
    promote_replica,
    terminate,
)
from compute.api.internal import refresh_configuration, set_role_grants
from compute.models import (
    ComputeStatus,
    ConfigureRequest,
    ErrorDocument,
    OffloadStateNotOffloaded,
    OperationOutcomeFailed,
    OperationOutcomeName,
    PrewarmStateNotPrewarmed,
    Privilege,
    PromoteRequest,
    PromotionStateFailed,
    SchemaGrants,
    StartupMetrics,
    StatusDocument,
    TerminateDocument,
    TerminateMode,
)
from compute.types import Unset

external = AuthenticatedClient(os.environ["EXTERNAL"], os.environ["TOKEN"])
stranger = AuthenticatedClient(os.environ["EXTERNAL"], "a.b.c")
internal = Client(os.environ["INTERNAL"])
without = Client(os.environ["EXTERNAL"])


def success(answer, kind, code=200):
    assert answer.status_code == code, answer
    assert isinstance(answer.parsed, kind), answer
    return answer.parsed


def failure(answer, code):
    return success(answer, ErrorDocument, code).error


status = success(get_compute_status.sync_detailed(client=external), StatusDocument)
assert status.status == ComputeStatus.RUNNING, status
assert isinstance(status.start_time, datetime), status
assert len(status.tenant) == 32, status
waited = get_compute_status.sync(client=external, wait=ComputeStatus.RUNNING, timeout="5s")
assert waited.status == ComputeStatus.RUNNING, waited
failure(get_compute_status.sync_detailed(client=stranger), 401)

assert success(get_live.sync_detailed(client=without), str) == "ok"
assert "compute_ctl_up{" in success(get_compute_metrics.sync_detailed(client=without), str)
failure(get_autoscaling_metrics.sync_detailed(client=without), 500)
metrics = success(get_compute_metrics_json.sync_detailed(client=external), StartupMetrics)
assert metrics.total_startup_ms > 0, metrics
answer = get_compute_insights.sync_detailed(client=external)
assert "pg_stat_statements" in json.loads(success(answer, str)), answer
success(check_compute_writability.sync_detailed(client=external), bool)
roles = get_dbs_and_roles.sync(client=external).roles
assert any(role.name == "authenticated" for role in roles), roles
# The type of the answer says JSON, although it is SQL text.
schema = get_database_schema.sync_detailed(client=external, database="postgres")
assert b"CREATE SCHEMA auth" in schema.content, schema
failure(get_database_schema.sync_detailed(client=external, database="nothing"), 404)

# Documents with several forms.
answer = get_lfc_prewarm_state.sync_detailed(client=external)
assert success(answer, PrewarmStateNotPrewarmed).status == "not_prewarmed"
success(get_lfc_offload_state.sync_detailed(client=external), OffloadStateNotOffloaded)
assert lfc_prewarm.sync_detailed(client=external).status_code == 202

# Outcomes are a string or an object.
document = json.loads(os.environ["CONFIGURATION"])
request = ConfigureRequest.from_dict(document)
error = failure(configure_compute.sync_detailed(client=external, body=request), 500)
assert "pg_mine" in error, error
extra = get_compute_status.sync(client=external).extra
outcomes = {it.object_.name: it.outcome for it in extra.apply_report.operations}
failed = outcomes["pg_mine"]
assert isinstance(failed, OperationOutcomeFailed), outcomes
assert failed.failed.sqlstate == "42939", failed
# Back to the configuration of the start.
assert refresh_configuration.sync_detailed(client=internal).status_code == 200
status = get_compute_status.sync(client=external, wait=ComputeStatus.RUNNING, timeout="1m")
assert status.status == ComputeStatus.RUNNING, status
document["spec"]["cluster"]["roles"].pop()
request = ConfigureRequest.from_dict(document)
status = success(configure_compute.sync_detailed(client=external, body=request), StatusDocument)
assert not isinstance(status.extra, Unset), status
outcomes = [it.outcome for it in status.extra.apply_report.operations]
assert outcomes and all(it == OperationOutcomeName.DONE for it in outcomes), outcomes

request = PromoteRequest.from_dict({"spec": document["spec"], "wal_flush_lsn": "0/1F30EC8"})
success(promote_replica.sync_detailed(client=external, body=request), PromotionStateFailed, 500)

body = SchemaGrants("postgres", [Privilege.USAGE], "authenticated", "auth")
success(set_role_grants.sync_detailed(client=internal, body=body), SchemaGrants, 201)

answer = terminate.sync_detailed(client=external, mode=TerminateMode.FAST)
assert success(answer, TerminateDocument).lsn == "0/1F30EC8", answer
success(terminate.sync_detailed(client=external), TerminateDocument, 201)
request = ConfigureRequest.from_dict(document)
failure(configure_compute.sync_detailed(client=external, body=request), 412)
print("done")
