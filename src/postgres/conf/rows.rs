//! Builds the list of lines from the spec, row by row of 04 §3.2.

use super::audit::push_audit;
use super::lexer::{is_guc_name, read_line, read_text};
use super::render::render_line;
use super::{
    Body, CONF_HEADING, ConfError, ConfFile, ConfInputs, Origin, SUBSCRIBERS_SETTING,
    TEMP_OVERRIDE_FILE, Unreadable, Value,
};
use crate::secret::Secret;
use crate::spec::pageserver::PageserverConnectionInfo;
use crate::spec::wire::{ComputeMode, ComputeSpec, PgOption};
use crate::tls::install::{CERT_FILE, KEY_FILE};

/// Limits of the extension's fixed arrays (04 §4): entries of `neon.pageserver_connstring`, bytes
/// of one entry, entries of `neon.safekeepers`.
const MAX_SHARDS: usize = 128;
const MAX_URL_BYTES: usize = 255;
const MAX_SAFEKEEPERS: usize = 31;

const CONNSTRING: &str = "neon.pageserver_connstring";
const STRIPE_SIZE: &str = "neon.stripe_size";
const SAFEKEEPERS: &str = "neon.safekeepers";

impl ConfFile {
    /// All lines for a spec, in the order of 04 §3.2. Uses the members of the spec, not the
    /// effective values: a value that only the settings list gives is written from there.
    pub fn build(spec: &ComputeSpec, inputs: &ConfInputs<'_>) -> Result<Self, ConfError> {
        let mut conf = Self::default();
        conf.base_text(spec)?;
        match &spec.pageserver_connection_info {
            Some(info) => conf.pageservers(info)?,
            None => conf.legacy_pageservers(spec)?,
        }
        conf.safekeepers(spec)?;
        conf.ids(spec);
        if inputs.tls {
            conf.tls();
        }
        conf.locale();
        conf.mode(spec.mode);
        if inputs.overcommit_strict {
            conf.raw(Origin::Program, "dynamic_shared_memory_type", "mmap");
        }
        conf.quoted(Origin::Program, "neon.privileged_role_name", inputs.privileged_role_name);
        if let Some(settings) = &spec.cluster.settings {
            conf.settings_list(settings)?;
        }
        push_audit(&mut conf, spec);
        conf.appended(spec, inputs);
        conf.quoted(Origin::Override, "include_if_exists", TEMP_OVERRIDE_FILE);
        conf.check_lines()?;
        Ok(conf)
    }

    /// Writes row 19 as `false` whatever the spec says, for a compute whose subscribers already run
    /// and which will not drop any (04 W10).
    pub fn keep_subscribers(&mut self) {
        for line in &mut self.lines {
            if let Body::Setting { name, value } = &mut line.body
                && name == SUBSCRIBERS_SETTING
                && line.origin == Origin::Appended
            {
                *value = Value::Raw(Secret::new("false".to_owned()));
            }
        }
    }

    /// Finds entries that cannot be rendered or that Postgres cannot read, before a file is
    /// written.
    fn check_lines(&mut self) -> Result<(), ConfError> {
        for line in &self.lines {
            let Body::Setting { name, .. } = &line.body else { continue };
            let mut text = String::new();
            render_line(line, &mut text)?;
            if let Err(error) = read_line(&text) {
                let unreadable = Unreadable { name: name.clone(), error };
                self.remarks.push(unreadable.to_string());
                self.unreadable.push(unreadable);
            }
        }
        Ok(())
    }

    /// Rows 1 and 2. The heading comes first, before a text of any length, because the next start
    /// reads only the first line to identify the directory.
    fn base_text(&mut self, spec: &ComputeSpec) -> Result<(), ConfError> {
        self.comment(Origin::Program, CONF_HEADING);
        if let Some(text) = &spec.cluster.postgresql_conf {
            read_text(text).map_err(ConfError::BaseText)?;
            self.push(Origin::BaseText, Body::Verbatim(Secret::new(text.clone())));
        }
        self.comment(Origin::Program, "");
        Ok(())
    }

    /// Rows 3a and 3b. The stripe size comes first: on a reload the extension uses the stripe size
    /// in force at the moment when the connection string is assigned.
    fn pageservers(&mut self, info: &PageserverConnectionInfo) -> Result<(), ConfError> {
        if let Some(stripe_size) = info.stripe_size {
            self.raw(Origin::Program, STRIPE_SIZE, stripe_size.to_string());
        }
        let mut urls = Vec::new();
        for index in info.indexes() {
            urls.push(info.first_pageserver(index)?.libpq_url.as_ref());
        }
        let Some(urls) = urls.into_iter().collect::<Option<Vec<_>>>() else {
            self.comment(
                Origin::Program,
                "# A shard has no libpq URL: no neon.pageserver_connstring.",
            );
            self.remarks.push(
                "a pageserver has no libpq_url, so Postgres gets no neon.pageserver_connstring"
                    .to_owned(),
            );
            return Ok(());
        };
        let urls: Vec<&str> = urls.into_iter().map(|url| url.expose().as_str()).collect();
        self.connstring(&urls.join(","))
    }

    /// Rows 3c and 3d.
    fn legacy_pageservers(&mut self, spec: &ComputeSpec) -> Result<(), ConfError> {
        if let Some(stripe_size) = spec.shard_stripe_size {
            self.raw(Origin::Program, STRIPE_SIZE, stripe_size.to_string());
        }
        match &spec.pageserver_connstring {
            Some(connstring) => self.connstring(connstring.expose()),
            None => Ok(()),
        }
    }

    fn connstring(&mut self, connstring: &str) -> Result<(), ConfError> {
        let longest = connstring.split(',').map(str::len).max().unwrap_or_default();
        check_limit(CONNSTRING, "number of shards", connstring.split(',').count(), MAX_SHARDS)?;
        check_limit(CONNSTRING, "length in bytes of one entry", longest, MAX_URL_BYTES)?;
        self.quoted(Origin::Program, CONNSTRING, connstring);
        Ok(())
    }

    /// Row 4, in every mode and in the order of the spec: sorting would let a reordering restart
    /// the WAL proposer.
    fn safekeepers(&mut self, spec: &ComputeSpec) -> Result<(), ConfError> {
        let addresses = &spec.safekeeper_connstrings;
        if addresses.is_empty() {
            return Ok(());
        }
        check_limit(SAFEKEEPERS, "number of safekeepers", addresses.len(), MAX_SAFEKEEPERS)?;
        let generation = spec.safekeepers_generation.map(|n| format!("g#{n}:")).unwrap_or_default();
        self.quoted(Origin::Program, SAFEKEEPERS, generation + &addresses.join(","));
        Ok(())
    }

    /// Rows 5 to 9.
    fn ids(&mut self, spec: &ComputeSpec) {
        let ids = [
            ("neon.tenant_id", spec.tenant_id.map(|id| id.to_string())),
            ("neon.timeline_id", spec.timeline_id.map(|id| id.to_string())),
            ("neon.project_id", spec.project_id.clone()),
            ("neon.branch_id", spec.branch_id.clone()),
            ("neon.endpoint_id", spec.endpoint_id.clone()),
        ];
        for (name, id) in ids {
            if let Some(id) = id {
                self.quoted(Origin::Program, name, id);
            }
        }
    }

    /// Row 10. [`crate::tls`] copies the files into PGDATA.
    fn tls(&mut self) {
        self.raw(Origin::Program, "ssl", "on");
        self.quoted(Origin::Program, "ssl_cert_file", CERT_FILE);
        self.quoted(Origin::Program, "ssl_key_file", KEY_FILE);
    }

    /// Row 11.
    fn locale(&mut self) {
        for name in ["lc_messages", "lc_monetary", "lc_time", "lc_numeric"] {
            self.quoted(Origin::Program, name, "C.UTF-8");
        }
    }

    /// Rows 12 and 13.
    fn mode(&mut self, mode: ComputeMode) {
        self.raw(Origin::Program, "neon.compute_mode", mode.to_string());
        if mode != ComputeMode::Primary {
            self.raw(Origin::Program, "hot_standby", "on");
        }
        if let ComputeMode::Static(lsn) = mode {
            self.quoted(Origin::Program, "recovery_target_lsn", lsn.to_string());
        }
    }

    /// Row 16.
    fn settings_list(&mut self, settings: &[PgOption]) -> Result<(), ConfError> {
        let origin = Origin::SpecList;
        self.comment(origin, "# Settings of the spec: begin.");
        for setting in settings {
            let PgOption { name, value, vartype } = setting;
            match value {
                // Postgres would refuse the whole file.
                None => self.leave_out(name)?,
                Some(_) if setting.lacks_value() => self.leave_out(name)?,
                Some(value) if vartype == "string" => self.quoted(origin, name, value),
                Some(value) => self.raw(origin, name, value),
            }
        }
        self.comment(origin, "# Settings of the spec: end.");
        Ok(())
    }

    fn leave_out(&mut self, name: &str) -> Result<(), ConfError> {
        if !is_guc_name(name) {
            return Err(ConfError::BadName(name.to_owned()));
        }
        self.remarks.push(format!("setting {name} has no value in the spec and is left out"));
        Ok(())
    }

    /// Row 21 (04 §16).
    fn lakebase(&mut self, spec: &ComputeSpec, port: u16) {
        let origin = Origin::Appended;
        self.raw(origin, "port", port.to_string());
        let Some(settings) = &spec.databricks_settings else { return };
        let host = &settings.databricks_workspace_host;
        self.quoted(origin, "ssl_ca_file", &settings.pg_compute_tls_settings.ca_file);
        self.quoted(origin, "databricks.workspace_url", host);
        self.raw(origin, "databricks.enable_databricks_identity_login", "true");
        self.raw(origin, "databricks.enable_sql_restrictions", "true");
    }

    /// Rows 18 to 21: lines that the settings list cannot override.
    fn appended(&mut self, spec: &ComputeSpec, inputs: &ConfInputs<'_>) {
        let origin = Origin::Appended;
        let port = inputs.internal_http_port.to_string();
        self.raw(origin, "neon.extension_server_port", port);
        self.raw(origin, SUBSCRIBERS_SETTING, spec.drop_subscriptions_before_start.to_string());
        if spec.logs_export_host.is_some() {
            self.quoted(origin, "log_destination", "stderr,syslog");
        }
        if let Some(port) = inputs.lakebase_port {
            self.lakebase(spec, port);
        }
    }
}

fn check_limit(
    setting: &'static str,
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), ConfError> {
    if count > limit {
        return Err(ConfError::Limit { setting, what, count, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod examples_tests;
