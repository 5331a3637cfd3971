//! The documents of the API, as the client reads them (02 §12).
//!
//! They accept members that this version does not know, so that a client can drive computes of other
//! versions.

mod status;
mod work;

pub use status::{
    Activity, ApplyCounts, ApplyReport, CatalogObject, Extra, LastFailure, Operation, Outcome,
    Status,
};
pub use work::{Offload, OffloadTimes, Prewarm, PrewarmFigures, Promotion, PromotionTimes};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `GET /metrics.json`: how long the parts of the start took. 0 until known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartupMetrics {
    /// Process start to spec, in ms, for a compute that started empty.
    pub wait_for_spec_ms: u64,
    /// The quorum check, in ms.
    pub sync_sk_check_ms: u64,
    /// The safekeeper sync at start, in ms.
    pub sync_safekeepers_ms: u64,
    /// Connecting to the pageserver, in µs.
    pub pageserver_connect_micros: u64,
    /// From the connection to the pageserver to the unpacked base backup, in ms.
    pub basebackup_ms: u64,
    /// Compressed bytes of the base backup.
    pub basebackup_bytes: u64,
    /// Spawn of Postgres to ready, in ms.
    pub start_postgres_ms: u64,
    /// Ready to running, in ms.
    pub config_ms: u64,
    /// The whole start, in ms.
    pub total_startup_ms: u64,
    /// Download of preloaded extensions, in ms.
    pub load_ext_ms: u64,
    /// Number of extensions downloaded.
    pub num_ext_downloaded: u64,
    /// Bytes of the largest one, compressed.
    pub largest_ext_size: u64,
    /// Bytes of all, compressed.
    pub total_ext_download_size: u64,
}

/// Answer of `POST /terminate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    /// The LSN up to which the safekeepers have the WAL, as `0/1F30EC8`; `None` if nothing was
    /// synced at the end.
    pub lsn: Option<String>,
}

/// `GET /dbs_and_roles`: all databases and roles of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Roles, predefined ones included.
    pub roles: Vec<Role>,
    /// Databases, templates included.
    pub databases: Vec<Database>,
}

/// A role of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its password verifier, as Postgres stores it.
    #[serde(default)]
    pub encrypted_password: Option<String>,
}

/// A database of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// It allows no connections.
    #[serde(default)]
    pub restrict_conn: bool,
    /// A drop was begun and not finished.
    #[serde(default)]
    pub invalid: bool,
}

/// The JSON text in the answer of `GET /insights`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Insights {
    /// The statements that take longest: rows of `pg_stat_statements`, whose columns depend on the
    /// version of Postgres.
    pub pg_stat_statements: Vec<Map<String, Value>>,
}

/// Body of `POST /extensions` on the internal server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub extension: String,
    /// The database that gets it.
    pub database: String,
    /// The version to install or update to.
    pub version: String,
}

/// Body of `POST /grants` on the internal server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The database of the schema.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// `USAGE` or `CREATE`.
    pub privileges: Vec<String>,
    /// The role that gets them.
    pub role: String,
}
