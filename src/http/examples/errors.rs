//! Examples of error answers: one text for each status code of each operation. Where the program
//! has a type for the error, the text is that type's.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::auth::{MALFORMED, UNVERIFIED};
use super::super::body::BodyError;
use super::super::claims::ClaimsError;
use crate::catalog::protected::Refusal;
use crate::node::{ConfigureError, WrongStatus};
use crate::services::extensions::index::ResolveError;
use crate::state::ComputeStatus;

/// The document of this operation with this status code.
pub(super) fn answer(operation: &str, code: u16) -> Option<Value> {
    let text = own(operation, code).or_else(|| common(operation, code))?;
    Some(json!({"error": text}))
}

/// Of one operation.
fn own(operation: &str, code: u16) -> Option<String> {
    let text = match (operation, code) {
        ("getComputeStatus", 503) => {
            "512 requests wait for a status already, and no more may; ask without `wait`, or again \
             later"
        }
        ("configureCompute", 500) => {
            let why = "role \"bob\" does not exist".to_owned();
            return Some(ConfigureError::Failed(why).to_string());
        }
        ("terminate", 500) => "the process is ending before the compute is terminated",
        ("getDatabaseSchema", 404) => "database does not exist",
        ("getDatabaseSchema", 500) => "failed to execute pg_dump",
        ("lfcPrewarm" | "lfcOffload", 412) => {
            return Some(WrongStatus(ComputeStatus::Empty).to_string());
        }
        ("lfcPrewarm", 429) => "Multiple requests for prewarm are not allowed",
        ("lfcOffload", 429) => "Multiple requests for prewarm offload are not allowed",
        ("downloadExtension", 400) => {
            "failed to deserialize query string: is_library: provided string was not `true` or \
             `false`"
        }
        ("downloadExtension", 404) => {
            return Some(ResolveError::Extension("no_such".to_owned()).to_string());
        }
        ("downloadExtension", 409) => "information about remote extensions is unavailable",
        ("downloadExtension", 412) => "remote storage is not configured",
        ("downloadExtension", 500) => {
            "Failed to download a remote file: error downloading extension \"anon\": the gateway \
             answered 503 Service Unavailable"
        }
        ("getPage", 400) => "refresh is a number of seconds up to 3600",
        (_, 421) => {
            "without a token this path answers only to an IP address, localhost, the host name of \
             this machine and the names of --internal-http-host, so that no other site can read it; \
             write one of them in place of the name"
        }
        ("getLogLevel" | "setLogLevel", 500) => "internal error",
        ("getLog", 400) => "timeout: 300 s at most",
        ("getLog", 503) => {
            "512 requests wait for a status already, and no more may; ask without `wait`, or again \
             later"
        }
        ("installExtension", 403) => return Some(Refusal::OurExtension.to_string()),
        ("installExtension", 500) => {
            "failed to install extension: Failed to connect to the database: db error: FATAL: \
             database \"shop\" does not exist"
        }
        ("setRoleGrants", 403) => return Some(Refusal::EveryRole.to_string()),
        ("setRoleGrants", 500) => {
            "failed to grant role privileges to the schema: Failed to execute query: db error: \
             ERROR: role \"alice\" does not exist"
        }
        ("refreshConfiguration", 500) => {
            let status = ComputeStatus::Empty;
            return Some(format!("Cannot refresh compute configuration in state {status:?}"));
        }
        ("getLive", 503) => "not live: the driver's task has not run for 61.4 s",
        ("getReady", 503) => "not ready: the compute is starting",
        ("getStartup", 503) => "not started: the compute is starting",
        ("getAutoscalingMetrics", 500) => {
            "connecting to communicator control socket: No such file or directory (os error 2)"
        }
        ("hadronLivenessProbe", 500) => {
            "could not run `/usr/lib/postgresql/17/bin/pg_isready --port 5432`: exit status: 2: \
             localhost:5432 - no response"
        }
        ("checkComputeWritability", 409) => {
            "db error: ERROR: table public.health_check is not used: it belongs to role 'alice', which is not \
             a superuser; rename or drop that table, and the next start makes another"
        }
        ("getComputeInsights", 409) => {
            "db error: ERROR: view pg_stat_statements is not read: it or its schema was renamed just \
             now; ask again"
        }
        ("getOpenApi" | "getComputeMetrics", 500) => "internal error",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Of all operations whose answers come from the same place.
fn common(operation: &str, code: u16) -> Option<String> {
    let asks_for_no_token =
        ["installExtension", "setRoleGrants", "setLogLevel", "configureFailpoints"];
    let text = match code {
        400 if asks_for_no_token.contains(&operation) => {
            "failed to parse the request body as json: expected value at line 1 column 1".to_owned()
        }
        400 => MALFORMED.to_owned(),
        401 => UNVERIFIED.to_owned(),
        403 => ClaimsError::ComputeIdInvalid.to_string(),
        408 => BodyError::TooSlow.to_string(),
        412 => WrongStatus(ComputeStatus::Init).to_string(),
        413 => BodyError::TooLarge.to_string(),
        415 => BodyError::ContentType.to_string(),
        422 => {
            let what = match operation {
                "installExtension" | "setRoleGrants" => "missing field `database`",
                "setLogLevel" => "missing field `level`",
                "configureFailpoints" => "missing field `name`",
                _ => "spec.cluster: missing field `settings`",
            };
            format!(
                "failed to deserialize the json body into the target type: {what} at line 1 \
                 column 52"
            )
        }
        500 => "error connecting to server: Connection refused (os error 111)".to_owned(),
        503 => BodyError::NoRoom(96 << 20).to_string(),
        _ => return None,
    };
    Some(text)
}

/// Whether a status code stands for an error.
pub(super) fn is_error(code: u16) -> bool {
    StatusCode::from_u16(code).is_ok_and(|code| code.is_client_error() || code.is_server_error())
}
