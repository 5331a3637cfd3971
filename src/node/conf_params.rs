//! The parameters of the process that `postgresql.conf` depends on (04 §3).

use url::Url;

use crate::postgres::conf::{ConfError, ConfFile, ConfInputs};
use crate::postgres::files;
use crate::spec::ComputeSpec;
use crate::spec::wire::TlsConfig;
use crate::tls;

/// Default port of Postgres.
pub(super) const POSTGRES_PORT: u16 = 5432;

/// The inputs of the file besides the spec. All of them are fixed for the life of the process and
/// known from the arguments and the first configuration, so that a spec can be checked before the
/// node exists, and by `compute_ctl check`.
#[derive(Debug, Clone, Copy)]
pub struct ConfParams<'a> {
    /// `--privileged-role-name`.
    pub privileged_role_name: &'a str,
    /// Port of the internal HTTP server.
    pub internal_http_port: u16,
    /// `compute_ctl_config.tls`; the spec also decides whether it is used.
    pub tls: Option<&'a TlsConfig>,
    /// `--connstr`, in Lakebase mode only.
    pub lakebase_connstr: Option<&'a Url>,
}

impl ConfParams<'_> {
    /// Builds the file for a spec. Reads the kernel's overcommit policy: the file follows the
    /// policy at the time when the spec was accepted.
    ///
    /// # Errors
    /// No file can be built for this spec.
    pub(super) fn build(&self, spec: &ComputeSpec) -> Result<ConfFile, ConfError> {
        let inputs = ConfInputs {
            privileged_role_name: self.privileged_role_name,
            internal_http_port: self.internal_http_port,
            overcommit_strict: files::overcommit_is_strict(),
            tls: tls::is_active(self.tls, spec),
            lakebase_port: self.lakebase_connstr.map(|url| url.port().unwrap_or(POSTGRES_PORT)),
        };
        ConfFile::build(spec, &inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(features: &[&str]) -> ComputeSpec {
        serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0, "features": features,
            "cluster": {"roles": [], "databases": []}
        }))
        .unwrap()
    }

    #[test]
    fn what_the_arguments_say_is_in_the_file() {
        let tls: TlsConfig =
            serde_json::from_value(json!({"key_path": "/k", "cert_path": "/c"})).unwrap();
        let url = |text: &str| Url::parse(text).unwrap();
        let (without_port, with_port) = (url("postgresql://a@h/d"), url("postgresql://a@h:55/d"));
        let params = ConfParams {
            privileged_role_name: "r",
            internal_http_port: 1,
            tls: Some(&tls),
            lakebase_connstr: None,
        };
        let value = |params: ConfParams<'_>, spec: &ComputeSpec, name: &str| {
            let conf = params.build(spec).unwrap();
            conf.value_in_force(name).map(|value| value.expose().clone())
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(value(params, &spec(&[]), "neon.privileged_role_name"), text("r"));
        assert_eq!(value(params, &spec(&[]), "ssl"), None, "the spec does not ask for it");
        assert_eq!(value(params, &spec(&["tls_experimental"]), "ssl"), text("on"));
        let no_files = ConfParams { tls: None, ..params };
        assert_eq!(value(no_files, &spec(&["tls_experimental"]), "ssl"), None);
        for (url, port) in [(&without_port, "5432"), (&with_port, "55")] {
            let lakebase = ConfParams { lakebase_connstr: Some(url), ..params };
            assert_eq!(value(lakebase, &spec(&[]), "port"), text(port));
        }
    }
}
