//! The description of the API (03 §15): `openapi.json` as it is in the tree.
//!
//! A test in [`super::routes`] compares the file with the handlers. To describe them at run time
//! would cost a fortieth of the program's code.

use std::io::Read as _;

use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use flate2::read::GzDecoder;

use super::answers::{EXTERNAL, INTERNAL_URL};
use super::api::{Routes, route};
use super::error::{ApiError, ErrorDocument};

/// `build.rs` compresses the file.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));

/// Routes of both servers, open to all.
pub(super) fn shared() -> Routes {
    vec![route!(description)]
}

#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getOpenApi",
    tag = EXTERNAL,
    servers((url = "http://localhost:3080"), (url = INTERNAL_URL)),
    summary = "This description",
    responses(
        (status = 200, description = "The same on both servers", body = Object),
        (status = 500, description = "Should not happen", body = ErrorDocument)
    )
)]
async fn description() -> Result<impl IntoResponse, ApiError> {
    Ok(([(header::CONTENT_TYPE, "application/json")], text()?))
}

/// The description in JSON. It is not kept: clients rarely ask for it.
pub(super) fn text() -> Result<Bytes, ApiError> {
    let mut text = Vec::new();
    if let Err(error) = GzDecoder::new(COMPRESSED).read_to_end(&mut text) {
        tracing::error!("could not unpack the description of the API: {error}");
        return Err(ApiError::internal());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_file_in_the_tree() {
        let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json"));
        assert!(text().unwrap() == file.as_slice());
    }
}
