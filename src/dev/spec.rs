//! Writes the configuration document that connects a compute to the stand-ins (06 §11.6).
//!
//! The settings suit a vanilla Postgres, as a primary and as a standby. All of them can be
//! overridden: tests change one and keep the rest.

use std::fmt;
use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::pageserver::StandInPageserver;

/// Default tenant.
pub const TENANT_ID: &str = "51b0c7e2a94d4c06b3f7d1e8a2640f9c";
/// Default timeline.
pub const TIMELINE_ID: &str = "e7d25a1c90b84f3fa6120c4b8d93f57e";

/// The fields of a configuration document, with defaults for a primary.
#[derive(Clone)]
pub struct SpecBuilder {
    /// 32 hex digits.
    pub tenant_id: String,
    /// 32 hex digits.
    pub timeline_id: String,
    /// `"Primary"`, `"Replica"` or `{"Static": "0/1"}`.
    pub mode: Value,
    /// Connection string of the pageserver.
    pub pageserver_connstring: String,
    /// Addresses, `host:port` each.
    pub safekeeper_connstrings: Vec<String>,
    /// Password for both kinds of storage.
    pub storage_auth_token: Option<String>,
    /// Whether the compute makes no catalog changes.
    pub skip_pg_catalog_updates: bool,
    /// Role objects, see [`SpecBuilder::role`].
    pub roles: Vec<Value>,
    /// Database objects, see [`SpecBuilder::database`].
    pub databases: Vec<Value>,
    /// Settings: value and vartype by name, in the given order.
    pub settings: IndexMap<String, (String, String)>,
    /// Keys that the API accepts, as a JWKS document.
    pub jwks: Value,
    /// Members that are added to the spec or replace its own.
    pub extra: IndexMap<String, Value>,
}

impl fmt::Debug for SpecBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Roles may hold passwords, and the token is a secret too.
        f.debug_struct("SpecBuilder")
            .field("tenant_id", &self.tenant_id)
            .field("timeline_id", &self.timeline_id)
            .field("mode", &self.mode)
            .field("safekeeper_connstrings", &self.safekeeper_connstrings)
            .finish_non_exhaustive()
    }
}

impl SpecBuilder {
    /// A primary with these endpoints. Postgres will listen on `port`, on 127.0.0.1 and in
    /// `socket_dir`.
    #[must_use]
    pub fn new(
        pageserver_connstring: impl Into<String>,
        safekeeper_connstrings: Vec<String>,
        port: u16,
        socket_dir: &Path,
    ) -> Self {
        let mut builder = Self {
            tenant_id: TENANT_ID.to_owned(),
            timeline_id: TIMELINE_ID.to_owned(),
            mode: json!("Primary"),
            pageserver_connstring: pageserver_connstring.into(),
            safekeeper_connstrings,
            storage_auth_token: None,
            skip_pg_catalog_updates: false,
            roles: Vec::new(),
            databases: Vec::new(),
            settings: IndexMap::new(),
            jwks: json!({"keys": []}),
            extra: IndexMap::new(),
        };
        builder
            .typed("port", &port.to_string(), "integer")
            .set("listen_addresses", "127.0.0.1")
            .set("unix_socket_directories", &socket_dir.to_string_lossy())
            // A standby refuses smaller values than its primary had.
            .typed("max_connections", "100", "integer")
            .typed("max_wal_senders", "10", "integer")
            .typed("max_worker_processes", "8", "integer")
            .typed("wal_level", "replica", "enum")
            // The supervisor decides about a restart, not the postmaster.
            .typed("restart_after_crash", "off", "bool");
        builder
    }

    /// Sets a setting of vartype `string`.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.typed(name, value, "string")
    }

    /// Sets a setting; only values of vartype `string` are written in quotes (02).
    pub fn typed(&mut self, name: &str, value: &str, vartype: &str) -> &mut Self {
        self.settings.insert(name.to_owned(), (value.to_owned(), vartype.to_owned()));
        self
    }

    /// Whether data must survive a crash of the machine; `false` makes temporary computes faster.
    pub fn durable(&mut self, durable: bool) -> &mut Self {
        self.typed("fsync", if durable { "on" } else { "off" }, "bool")
    }

    /// Adds a role, with the stored form of its password if it has one.
    pub fn role(&mut self, name: &str, encrypted_password: Option<&str>) -> &mut Self {
        self.roles.push(json!({
            "name": name, "encrypted_password": encrypted_password, "options": null
        }));
        self
    }

    /// Adds a database.
    pub fn database(&mut self, name: &str, owner: &str) -> &mut Self {
        self.databases.push(json!({"name": name, "owner": owner, "options": null}));
        self
    }

    /// Makes the compute use gRPC for the basebackup and for leases; Postgres itself gets both URLs
    /// (06 §2.2).
    pub fn pageserver_over_grpc(&mut self, pageserver: &StandInPageserver) -> &mut Self {
        let urls = json!({"libpq_url": pageserver.connstring(), "grpc_url": pageserver.grpc_url()});
        self.member(
            "pageserver_connection_info",
            json!({
                "shard_count": 0, "prefer_protocol": "grpc",
                "shards": {"0000": {"pageservers": [urls]}},
            }),
        )
    }

    /// Adds or replaces a member of the spec; `null` is written as `null`.
    pub fn member(&mut self, name: &str, value: Value) -> &mut Self {
        self.extra.insert(name.to_owned(), value);
        self
    }

    /// The bare spec, as `--spec` takes it.
    #[must_use]
    pub fn spec(&self) -> Value {
        let settings: Vec<Value> = self
            .settings
            .iter()
            .map(|(name, (value, vartype))| {
                json!({"name": name, "value": value, "vartype": vartype})
            })
            .collect();
        let mut spec = json!({
            "format_version": 1.0,
            "operation_uuid": "6a8c2f0e-1d8e-4a37-9b0e-7f6f3f0d2a11",
            "suspend_timeout_seconds": -1,
            "skip_pg_catalog_updates": self.skip_pg_catalog_updates,
            "mode": self.mode,
            "tenant_id": self.tenant_id,
            "timeline_id": self.timeline_id,
            "pageserver_connstring": self.pageserver_connstring,
            "safekeeper_connstrings": self.safekeeper_connstrings,
            "cluster": {
                "cluster_id": "dev", "name": "dev", "state": "restarted",
                "roles": self.roles, "databases": self.databases,
                "settings": settings,
            },
            "delta_operations": [],
        });
        if let Value::Object(members) = &mut spec {
            if let Some(token) = &self.storage_auth_token {
                members.insert("storage_auth_token".to_owned(), json!(token));
            }
            members.extend(self.extra.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        spec
    }

    /// The whole document, as `--config` and `/configure` take it.
    #[must_use]
    pub fn config(&self) -> Value {
        json!({"spec": self.spec(), "compute_ctl_config": {"jwks": self.jwks}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_and_overrides() {
        let safekeepers = vec!["127.0.0.1:16501".to_owned()];
        let mut builder =
            SpecBuilder::new("postgresql://p", safekeepers, 15432, Path::new("/tmp/s"));
        builder
            .durable(false)
            .set("port", "1")
            .role("ann", None)
            .database("store", "ann")
            .member("mode", json!({"Static": "0/1"}));
        builder.storage_auth_token = Some("hunter2".to_owned());
        let config = builder.config();
        assert_eq!(config["compute_ctl_config"]["jwks"]["keys"], json!([]));
        let spec = &config["spec"];
        assert_eq!(spec["mode"], json!({"Static": "0/1"}));
        assert_eq!(spec["storage_auth_token"], "hunter2");
        assert_eq!(spec["cluster"]["roles"][0]["name"], "ann");
        assert_eq!(spec["cluster"]["databases"][0]["owner"], "ann");
        let settings = spec["cluster"]["settings"].as_array().unwrap();
        assert_eq!(settings[0], json!({"name": "port", "value": "1", "vartype": "string"}));
        let last = json!({"name": "fsync", "value": "off", "vartype": "bool"});
        assert_eq!(settings.last().unwrap(), &last);
        assert!(!format!("{builder:?}").contains("hunter2"));
    }
}
