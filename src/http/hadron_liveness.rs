//! `/hadron_liveness_probe`: whether Postgres answers (03 §14).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::answers::{EXTERNAL, TokenErrors};
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use crate::postgres::client::Address;

const PROGRAM: &str = "pg_isready";
/// Bytes of output to keep; `pg_isready` writes one line.
const OUTPUT: usize = 1024;

/// Routes of the external server that ask for a token.
pub(super) fn protected() -> Routes {
    vec![route!(liveness_probe)]
}

/// Runs `pg_isready` with an explicit host, because Postgres may not listen in the default socket
/// directory (03 W24).
#[utoipa::path(
    get,
    path = "/hadron_liveness_probe",
    operation_id = "hadronLivenessProbe",
    tag = EXTERNAL,
    summary = "Whether Postgres answers",
    security(("JWT" = [])),
    responses(
        (status = 200, description = "It does", body = String, content_type = "application/json"),
        TokenErrors,
        (status = 500, description = "It does not", body = ErrorDocument)
    )
)]
async fn liveness_probe(State(api): State<Api>) -> Result<Json<&'static str>, ApiError> {
    let failed = |text: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text);
    let params = &api.node.params;
    let address = Address::of(&params.connstr);
    let Some(port) = address.port else {
        return Err(failed("Failed to get the port from the connection string".to_owned()));
    };
    let mut command = address.command(&params.install, PROGRAM);
    command.args(["--port", &port.to_string()]);
    if let Some(host) = &address.host {
        command.args(["--host", host]);
    }
    let said = match api.node.children.run(command, params.timeouts.postgres.helper, OUTPUT).await {
        Ok(output) if output.status.success() => return Ok(Json("ok")),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            format!("{}: {}", output.status, String::from_utf8_lossy(&said).trim())
        }
        Err(error) => error.to_string(),
    };
    let program = params.install.program(PROGRAM);
    Err(failed(format!("could not run `{} --port {port}`: {said}", program.display())))
}
