//! The local file cache of Neon's extension: SQL functions in the place of the extension's, and a
//! stored state.

use serde_json::json;

use crate::support::bed::Bed;

/// The token of the endpoint storage.
pub const STORAGE_TOKEN: &str = "PLANTED-endpoint-token";
/// Hardly compressible, with bytes that other formats would escape.
pub const CACHE_STATE: &[u8] = b"\x00\xff'\\state of the cache\n";

/// `neon.calls` has a row for each call of the prewarm; its time is taken from `neon.behaviour`.
pub const CACHE_FUNCTIONS: &str = r"
    CREATE SCHEMA neon;
    CREATE TABLE neon.calls (state bytea, workers int, name text);
    CREATE TABLE neon.behaviour (seconds float8, state bytea);
    INSERT INTO neon.behaviour VALUES (0, NULL);
    CREATE FUNCTION neon.prewarm_local_cache(state bytea, n_workers int DEFAULT 1) RETURNS void
    LANGUAGE sql AS $$
        INSERT INTO neon.calls VALUES
            (state, n_workers, pg_catalog.current_setting('application_name'));
        SELECT pg_catalog.pg_sleep(seconds) FROM neon.behaviour;
    $$;
    CREATE FUNCTION neon.get_prewarm_info(
        OUT total_pages int, OUT prewarmed_pages int, OUT skipped_pages int, OUT active_workers int
    ) LANGUAGE sql AS 'SELECT 40, 31, 9, NULL::int';
    CREATE FUNCTION neon.get_local_cache_state(max_chunks int DEFAULT NULL) RETURNS bytea
    LANGUAGE sql AS 'SELECT state FROM neon.behaviour';
";

/// The state as it is stored.
pub fn compressed_cache() -> Vec<u8> {
    zstd::encode_all(CACHE_STATE, 3).unwrap()
}

/// Has the compute keep its state in the endpoint storage at this address.
pub fn use_storage(bed: &mut Bed, address: &str) {
    bed.spec
        .member("endpoint_id", json!("ep-own"))
        .member("endpoint_storage_addr", json!(address))
        .member("endpoint_storage_token", json!(STORAGE_TOKEN));
}
