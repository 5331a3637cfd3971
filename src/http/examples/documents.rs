//! Examples of documents: answers are made of the values that handlers return, so that they have
//! the form of real answers; a test reads bodies of requests as the handlers do.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::catalog::operation::{Action, CatalogStep, Object, ObjectKind};
use crate::catalog::report::{ApplyReport, Counts, OperationReport, Outcome};
use crate::node::details::Details;
use crate::node::promotion::states::{Promoted, PromotionState};
use crate::node::{FailedOperation, StartupMetrics, StatusDocument, StatusExtra};
use crate::services::lfc::states::{OffloadState, Offloaded, PrewarmState, Prewarmed};
use crate::services::monitor::activity::ActivityReason;
use crate::state::ComputeStatus;

/// The configuration of `/configure`; its spec is also that of `/promote`.
const CONFIGURE: &str = include_str!("configure.json");

/// The tenant and the timeline of [`CONFIGURE`].
const TENANT: &str = "3aa1ab0cfcbbb16f9bd5fac2c1e2a4f2";
const TIMELINE: &str = "d2a1e4bd1fbb1b09a3f2b3bd6f6f1a5c";
const LSN: &str = "0/1F30EC8";
const OPERATION: &str = "0f2c9f5e-6b1d-4d0a-9a53-3f2f6d1c7e55";

/// The body of a request to this operation.
pub(super) fn request(operation: &str) -> Option<Value> {
    let example = match operation {
        "configureCompute" => configure(),
        "promoteReplica" => json!({"spec": configure().get("spec"), "wal_flush_lsn": LSN}),
        "installExtension" => {
            json!({"extension": "citext", "database": "shop", "version": "1.6"})
        }
        "setRoleGrants" => grants(),
        "setLogLevel" => json!({"level": "debug", "for": "10m"}),
        "configureFailpoints" => json!([{"name": "before-start-postgres", "actions": "off"}]),
        _ => return None,
    };
    Some(example)
}

/// The body of an answer with success; [`super::errors`] has the others.
pub(super) fn answer(operation: &str) -> Option<Value> {
    let example = match operation {
        "getComputeStatus" | "configureCompute" => value(&status()),
        "terminate" => json!({"lsn": LSN}),
        "promoteReplica" => value(&PromotionState::Completed(Promoted {
            lsn_wait_time_ms: 4,
            pg_promote_time_ms: 102,
            reconfigure_time_ms: 35,
        })),
        "getComputeMetricsJSON" => value(&metrics()),
        "getComputeMetrics" => {
            "# HELP compute_ctl_up Status of the compute\n# TYPE compute_ctl_up gauge\n\
             compute_ctl_up{build_tag=\"latest\",status=\"running\"} 1\n"
                .into()
        }
        "getAutoscalingMetrics" => "# TYPE lfc_used_pages gauge\nlfc_used_pages 8192\n".into(),
        "getComputeInsights" => {
            let row = json!({"query": "COMMIT", "calls": 1200,
                "mean_exec_time": 0.043, "rows": 0});
            json!({"pg_stat_statements": [row]}).to_string().into()
        }
        "getDbsAndRoles" => json!({
            "roles": [
                {"name": "cloud_admin", "encrypted_password": null, "options": null},
                {"name": "alice", "encrypted_password": "SCRAM-SHA-256$4096:…", "options": null}
            ],
            "databases": [{
                "name": "shop", "owner": "alice", "options": null,
                "restrict_conn": false, "invalid": false
            }]
        }),
        "getDatabaseSchema" => "CREATE TABLE public.orders (\n    id integer NOT NULL\n);\n".into(),
        "checkComputeWritability" => true.into(),
        "hadronLivenessProbe" | "getLive" | "getReady" | "getStartup" => "ok".into(),
        "getLfcPrewarmState" => value(&PrewarmState::Completed(Prewarmed {
            total: 8192,
            prewarmed: 8000,
            skipped: 192,
            state_download_time_ms: 12,
            uncompress_time_ms: 3,
            prewarm_time_ms: 840,
        })),
        "getLfcOffloadState" => value(&OffloadState::Completed(Offloaded {
            state_query_time_ms: 5,
            compress_time_ms: 2,
            state_upload_time_ms: 14,
        })),
        "getDetails" => value(&details()),
        "getPage" | "getApiReference" => {
            "<!doctype html>\n<title>compute_ctl</title>\n<p>running</p>\n".into()
        }
        "getLogLevel" | "setLogLevel" => json!({
            "level": "debug", "configured": "info", "until": "2025-06-15T15:16:40Z"
        }),
        "getLog" => json!([{
            "sequence": 41, "timestamp": "2025-06-15T15:06:40.123456Z", "level": "INFO",
            "source": "compute_ctl", "message": "the compute is running"
        }]),
        "installExtension" => json!({"extension": "citext", "version": "1.6"}),
        "setRoleGrants" => grants(),
        "getOpenApi" => json!({"openapi": "3.1.0", "info": {"title": "Compute node control API"}}),
        _ => return None,
    };
    Some(example)
}

/// The outcome of a promotion that failed, with status code 500.
pub(super) fn failed_promotion() -> Value {
    let error = "could not promote: Postgres did not leave recovery within 60s".to_owned();
    value(&PromotionState::Failed { error })
}

fn configure() -> Value {
    // It is JSON: a test reads it.
    serde_json::from_str(CONFIGURE).unwrap_or_default()
}

fn grants() -> Value {
    json!({"database": "shop", "schema": "auth", "privileges": ["USAGE"], "role": "alice"})
}

fn value(document: &impl Serialize) -> Value {
    // Documents of ours have no keys that JSON cannot have.
    serde_json::to_value(document).unwrap_or_default()
}

fn metrics() -> StartupMetrics {
    StartupMetrics {
        sync_sk_check_ms: 3,
        pageserver_connect_micros: 812,
        basebackup_ms: 187,
        basebackup_bytes: 3_412_553,
        start_postgres_ms: 94,
        config_ms: 41,
        total_startup_ms: 331,
        ..StartupMetrics::default()
    }
}

/// A compute that runs although its last configuration failed in part.
pub(super) fn status() -> StatusDocument {
    StatusDocument {
        start_time: at(0),
        tenant: TENANT.parse().ok(),
        timeline: TIMELINE.parse().ok(),
        status: ComputeStatus::Running,
        last_active: Some(at(90)),
        error: None,
        extra: Some(StatusExtra {
            applied_operation: Some(OPERATION.to_owned()),
            last_failure: Some(FailedOperation {
                operation: Some("9d1f3a52-0c53-4a43-8a43-5a0d6f0b8f0e".to_owned()),
                phase: Some("apply_catalog"),
                error: "could not create database \"shop\": role \"bob\" does not exist".to_owned(),
                at: at(60),
            }),
            apply_report: Some(Arc::new(report())),
            activity: vec![ActivityReason { reason: "active_sessions", count: 2, last: at(90) }],
            ..StatusExtra::default()
        }),
    }
}

fn details() -> Details {
    Details {
        version: format!("{} (build tag latest)", env!("CARGO_PKG_VERSION")),
        compute_id: Some("compute-cool-darkness".to_owned()),
        mode: Some("primary"),
        postgres_version: 17,
        postgres_port: Some(55433),
        uptime_ms: 90_512,
        since: at(0),
        since_ms: 90_000,
        ready: true,
        unready_reason: None,
        startup_ms: 331,
        last_work: None,
        pending_restart: Some(vec!["shared_buffers".to_owned()]),
        changes: Vec::new(),
        tries: Vec::new(),
        leases: Vec::new(),
        certificate_ends: None,
        status: status(),
    }
}

fn report() -> ApplyReport {
    let operation = |name: &str, outcome| OperationReport {
        phase: CatalogStep::Databases,
        action: Action::Create,
        object: Object::new(ObjectKind::Database, name),
        database: "postgres".to_owned(),
        outcome,
    };
    let failed = Outcome::Failed {
        sqlstate: Some("42704".to_owned()),
        message: "role \"bob\" does not exist".to_owned(),
    };
    ApplyReport {
        operations: vec![operation("shop", Outcome::Done), operation("archive", failed)],
        unchanged: vec![Object::new(ObjectKind::Role, "alice")],
        counts: Counts { done: 1, failed: 1, unchanged: 1, vanished: 0 },
        ..ApplyReport::default()
    }
}

/// So many seconds after the start of the example.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + seconds, 0).unwrap_or_default()
}
