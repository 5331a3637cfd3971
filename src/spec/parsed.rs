//! The validated spec: effective values after the fallbacks of 02 §7 and 01 §5.4.
//!
//! A spec is checked completely here, before it replaces another one, so that a bad `/configure`
//! leaves the running compute untouched (02 W3, W4).

use std::str::FromStr;

use super::error::SpecError;
use super::host_port::split_host_port;
use super::ids::{TenantId, TimelineId};
use super::pageserver::PageserverConnectionInfo;
use super::wire::{ComputeMode, ComputeSpec};
use crate::secret::{self, Secret};

/// The setting that stands in for `endpoint_storage_token`.
const ENDPOINT_TOKEN: &str = "neon.endpoint_storage_token";

/// A spec together with its effective values. Shared by reference; replaced as a whole.
#[derive(Debug)]
pub struct ParsedSpec {
    /// The spec as it came.
    pub spec: ComputeSpec,
    /// `tenant_id`, else setting `neon.tenant_id`.
    pub tenant_id: TenantId,
    /// `timeline_id`, else setting `neon.timeline_id`.
    pub timeline_id: TimelineId,
    /// Converted from any of the three spellings.
    pub pageserver: PageserverConnectionInfo,
    /// `host:port` each; empty for a Static or Replica compute that names none.
    pub safekeepers: Vec<String>,
    /// `endpoint_storage_addr`, else the setting of that name.
    pub endpoint_storage_addr: Option<String>,
    /// `endpoint_storage_token`, else the setting of that name.
    pub endpoint_storage_token: Option<Secret<String>>,
}

impl ParsedSpec {
    /// Mode of the compute.
    pub const fn mode(&self) -> ComputeMode {
        self.spec.mode
    }

    /// Whether the compute is read-write.
    pub fn is_primary(&self) -> bool {
        self.spec.mode == ComputeMode::Primary
    }

    /// Password towards the storage nodes.
    pub const fn storage_token(&self) -> Option<&Secret<String>> {
        self.spec.storage_auth_token.as_ref()
    }
}

impl TryFrom<ComputeSpec> for ParsedSpec {
    type Error = SpecError;

    fn try_from(mut spec: ComputeSpec) -> Result<Self, SpecError> {
        if let Some(token) = &mut spec.storage_auth_token {
            *token = secret::token("storage_auth_token", token.expose())?;
        }
        let pageserver = pageserver_info(&spec)?;
        let safekeepers = safekeeper_addresses(&spec)?;
        let tenant_id = id(
            spec.tenant_id,
            spec.setting("neon.tenant_id"),
            SpecError::NoTenant,
            SpecError::BadTenant,
        )?;
        let timeline_id = id(
            spec.timeline_id,
            spec.setting("neon.timeline_id"),
            SpecError::NoTimeline,
            SpecError::BadTimeline,
        )?;
        if spec.mode == ComputeMode::Primary {
            check_safekeepers(&safekeepers)?;
        }
        pageserver.validate()?;
        if let Some(host) = &spec.logs_export_host
            && split_host_port(host).is_none()
        {
            return Err(SpecError::BadLogsExportHost);
        }

        let setting = |name| spec.setting(name).map(str::to_owned);
        let endpoint_storage_addr =
            spec.endpoint_storage_addr.clone().or_else(|| setting("neon.endpoint_storage_addr"));
        let endpoint_storage_token = match &spec.endpoint_storage_token {
            Some(token) => Some(("endpoint_storage_token", token.expose().as_str())),
            None => spec.setting(ENDPOINT_TOKEN).map(|token| (ENDPOINT_TOKEN, token)),
        };
        let endpoint_storage_token =
            endpoint_storage_token.map(|(name, text)| secret::token(name, text)).transpose()?;
        Ok(Self {
            tenant_id,
            timeline_id,
            pageserver,
            safekeepers,
            endpoint_storage_addr,
            endpoint_storage_token,
            spec,
        })
    }
}

fn id<T: FromStr>(
    member: Option<T>,
    setting: Option<&str>,
    missing: SpecError,
    bad: SpecError,
) -> Result<T, SpecError> {
    match (member, setting) {
        (Some(id), _) => Ok(id),
        (None, Some(text)) => text.parse().map_err(|_| bad),
        (None, None) => Err(missing),
    }
}

fn pageserver_info(spec: &ComputeSpec) -> Result<PageserverConnectionInfo, SpecError> {
    if let Some(info) = &spec.pageserver_connection_info {
        return Ok(info.clone());
    }
    if let Some(connstring) = &spec.pageserver_connstring {
        let info =
            PageserverConnectionInfo::from_connstring(connstring.expose(), spec.shard_stripe_size);
        return Ok(info?);
    }
    let connstring = spec.setting("neon.pageserver_connstring").ok_or(SpecError::NoPageserver)?;
    let stripe_size = match spec.setting("neon.stripe_size") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| SpecError::BadStripeSize)?),
    };
    Ok(PageserverConnectionInfo::from_connstring(connstring, stripe_size)?)
}

fn safekeeper_addresses(spec: &ComputeSpec) -> Result<Vec<String>, SpecError> {
    if !spec.safekeeper_connstrings.is_empty() {
        return Ok(spec.safekeeper_connstrings.clone());
    }
    if spec.mode != ComputeMode::Primary {
        return Ok(Vec::new());
    }
    let setting = spec.setting("neon.safekeepers").ok_or(SpecError::NoSafekeepers)?;
    // The setting has the form for Postgres, which may begin with a generation (02 W9, 06 W12).
    let list = match setting.strip_prefix("g#").and_then(|rest| rest.split_once(':')) {
        Some((generation, list)) if generation.parse::<u32>().is_ok() => list,
        _ => setting,
    };
    Ok(list.split(',').map(str::to_owned).collect())
}

fn check_safekeepers(safekeepers: &[String]) -> Result<(), SpecError> {
    if safekeepers.is_empty() {
        return Err(SpecError::SafekeepersEmpty);
    }
    // First, so that errors repeat only addresses: an entry may be a URL with a password.
    if let Some(position) = safekeepers.iter().position(|entry| !is_address(entry)) {
        return Err(SpecError::BadSafekeeper(position.saturating_add(1)));
    }
    let mut sorted: Vec<&String> = safekeepers.iter().collect();
    sorted.sort();
    if let Some((entry, _)) = sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a == b) {
        return Err(SpecError::DuplicateSafekeeper((*entry).clone()));
    }
    Ok(())
}

/// Whether a text is `host:port`; the host may be an IPv6 address in brackets.
fn is_address(entry: &str) -> bool {
    let Some((host, port)) = entry.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_sane = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(|c: char| " \t\n:@/?#[]%,'\"\\".contains(c)),
    };
    host_is_sane && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn base() -> Value {
        json!({
            "format_version": 1.0,
            "suspend_timeout_seconds": -1,
            "cluster": {"roles": [], "databases": []},
            "tenant_id": "f9ddaa608f8785cbabc1fd5fd652b865",
            "timeline_id": "0d5fa912d882faf89d456adb9d001240",
            "pageserver_connstring": "postgres://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["a:1"]
        })
    }

    fn parse(value: &Value) -> Result<ParsedSpec, SpecError> {
        serde_json::from_value::<ComputeSpec>(value.clone()).unwrap().try_into()
    }

    fn setting(name: &str, value: &str) -> Value {
        json!({"name": name, "value": value, "vartype": "string"})
    }

    /// Document 02 §14.9 and the tables of 02 §7.1.
    #[test]
    fn refusals_have_the_documented_texts() {
        let cases: [(&str, Value, &str); 12] = [
            (
                "pageserver_connstring",
                Value::Null,
                "pageserver connection information should be provided",
            ),
            ("pageserver_connstring", json!("host=u1,host=u2"), "2 shards but no stripe_size"),
            ("safekeeper_connstrings", json!([]), "safekeeper connstrings should be provided"),
            ("tenant_id", Value::Null, "tenant id should be provided"),
            ("timeline_id", Value::Null, "timeline id should be provided"),
            (
                "safekeeper_connstrings",
                json!(["a:1", "b:1", "a:1"]),
                "duplicate entry in safekeeper_connstrings: a:1!",
            ),
            (
                "safekeeper_connstrings",
                json!(["b:1", "a:1", "b:1", "a:1"]),
                "duplicate entry in safekeeper_connstrings: a:1!",
            ),
            (
                "safekeeper_connstrings",
                json!([""]),
                "safekeeper address no. 1 is not of the form host:port",
            ),
            (
                "safekeeper_connstrings",
                json!(["a:1", "a"]),
                "safekeeper address no. 2 is not of the form host:port",
            ),
            (
                "safekeeper_connstrings",
                json!(["a:b:1"]),
                "safekeeper address no. 1 is not of the form host:port",
            ),
            (
                "logs_export_host",
                json!("nocolon"),
                "Invalid host format for Postgres logs export: it is not of the form host:port",
            ),
            (
                "pageserver_connection_info",
                json!({"shard_count": 0, "shards": {"0000": {"pageservers": []}}}),
                "shard 0000 in pageserver_connection_info must have at least one pageserver",
            ),
        ];
        for (member, value, text) in cases {
            let mut spec = base();
            spec[member] = value;
            assert_eq!(parse(&spec).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn ids_in_settings_are_checked() {
        for (name, member, text) in [
            ("neon.tenant_id", "tenant_id", "invalid tenant id"),
            ("neon.timeline_id", "timeline_id", "invalid timeline id"),
        ] {
            let mut spec = base();
            spec[member] = Value::Null;
            spec["cluster"]["settings"] = json!([setting(name, "xyz")]);
            assert_eq!(parse(&spec).unwrap_err().to_string(), text);
        }
    }

    /// Example E5: the docker-compose form, ids and addresses only in settings.
    #[test]
    fn everything_can_come_from_settings() {
        let spec = json!({
            "format_version": 1.0,
            "suspend_timeout_seconds": 600,
            "cluster": {
                "roles": [],
                "databases": [],
                "settings": [
                    {"name": "neon.tenant_id", "value": null, "vartype": "string"},
                    setting("neon.timeline_id", "fb268001932eeb95b7ff235056309689"),
                    setting("neon.pageserver_connstring", "host=127.0.0.1 port=6400"),
                    setting("neon.safekeepers", "127.0.0.1:6501,127.0.0.1:6502,127.0.0.1:6503"),
                    setting("neon.endpoint_storage_addr", "es:9993"),
                    setting("neon.endpoint_storage_token", "tok")
                ]
            }
        });
        assert_eq!(parse(&spec).unwrap_err(), SpecError::NoTenant, "null counts as not given");

        let mut spec = spec;
        spec["cluster"]["settings"][0] =
            setting("neon.tenant_id", "8761780FE2FE258DA8FCB69E43B5E0D6");
        let parsed = parse(&spec).unwrap();
        assert_eq!(parsed.tenant_id.to_string(), "8761780fe2fe258da8fcb69e43b5e0d6");
        assert_eq!(parsed.safekeepers.len(), 3);
        assert_eq!(parsed.pageserver.shard_count, 0);
        assert_eq!(parsed.endpoint_storage_addr.as_deref(), Some("es:9993"));
        assert_eq!(parsed.endpoint_storage_token.unwrap().expose(), "tok");
    }

    /// 04 W11: the program uses the same entry as Postgres.
    #[test]
    fn of_several_settings_of_one_name_the_last_one_counts() {
        let mut spec = base();
        spec["timeline_id"] = Value::Null;
        spec["cluster"]["settings"] = json!([
            setting("neon.timeline_id", "00998877665544332211ffeeddccbbaa"),
            setting("Neon.Timeline_Id", "fb268001932eeb95b7ff235056309689"),
            setting("neon.timeline_id2", "xyz")
        ]);
        let timeline = parse(&spec).unwrap().timeline_id.to_string();
        assert_eq!(timeline, "fb268001932eeb95b7ff235056309689");
    }

    #[test]
    fn a_generation_in_the_safekeeper_setting_is_not_part_of_the_first_address() {
        let mut spec = base();
        spec["safekeeper_connstrings"] = json!([]);
        spec["cluster"]["settings"] =
            json!([setting("neon.safekeepers", "g#7:sk-1:6500,sk-2:6500")]);
        assert_eq!(parse(&spec).unwrap().safekeepers, ["sk-1:6500", "sk-2:6500"]);
    }

    #[test]
    fn read_only_computes_need_no_safekeepers() {
        for mode in [json!("Replica"), json!({"Static": "0/169AD58"})] {
            let mut spec = base();
            spec["mode"] = mode;
            spec["safekeeper_connstrings"] = json!([]);
            assert!(parse(&spec).unwrap().safekeepers.is_empty());
        }
    }

    #[test]
    fn an_even_number_of_safekeepers_and_ipv6_are_fine() {
        let mut spec = base();
        spec["safekeeper_connstrings"] = json!(["sk-1.example:6500", "[::1]:6500"]);
        assert_eq!(parse(&spec).unwrap().safekeepers.len(), 2);
    }

    #[test]
    fn a_bad_stripe_size_setting_is_an_error() {
        let mut spec = base();
        spec["pageserver_connstring"] = Value::Null;
        spec["cluster"]["settings"] = json!([
            setting("neon.pageserver_connstring", "host=a,host=b"),
            setting("neon.stripe_size", "many")
        ]);
        assert_eq!(parse(&spec).unwrap_err(), SpecError::BadStripeSize);
    }

    /// A URL instead of an address may hold a password.
    #[test]
    fn credentials_do_not_show_in_refusals() {
        let url = "postgres://u:PLANTED@sk-1:6500/";
        let addresses = [url, "PLANTED@sk:1", "sk:1@PLANTED", "host=sk password=PLANTED"];
        for address in addresses {
            for (member, value) in [
                ("safekeeper_connstrings", json!([address])),
                ("safekeeper_connstrings", json!([address, address])),
                ("safekeeper_connstrings", json!(["a:1", "a:1", address])),
                ("logs_export_host", json!(address)),
                ("pageserver_connstring", json!(format!("{address} port=x"))),
                (
                    "pageserver_connection_info",
                    json!({"shard_count": 0, "prefer_protocol": "grpc", "shards": {
                        "0000": {"pageservers": [{"grpc_url": address}]}
                    }}),
                ),
            ] {
                let mut spec = base();
                spec[member] = value.clone();
                let Err(error) = parse(&spec) else { continue };
                let text = format!("{error} {error:?}");
                assert!(!text.contains("PLANTED"), "{member} = {value}: {text}");
            }
        }
    }

    #[test]
    fn tokens_are_one_word() {
        let mut spec = base();
        spec["storage_auth_token"] = json!("tok\n");
        spec["endpoint_storage_token"] = json!("tok2\r\n");
        let parsed = parse(&spec).unwrap();
        assert_eq!(parsed.storage_token().unwrap().expose(), "tok");
        assert_eq!(parsed.endpoint_storage_token.unwrap().expose(), "tok2");
        for member in ["storage_auth_token", "endpoint_storage_token"] {
            let mut spec = base();
            spec[member] = json!("planted\nplanted");
            let error = parse(&spec).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{member} has a line break inside: correct its value")
            );
        }
        let mut spec = base();
        spec["cluster"]["settings"] = json!([setting("neon.endpoint_storage_token", "a\nb")]);
        let error = parse(&spec).unwrap_err().to_string();
        assert!(error.starts_with("neon.endpoint_storage_token has a line break"), "{error}");
    }

    #[test]
    fn secrets_do_not_show_in_debug_dumps() {
        let mut spec = base();
        spec["storage_auth_token"] = json!("planted-token");
        spec["pageserver_connstring"] = json!("postgres://u:planted-password@h");
        spec["cluster"]["roles"] = json!([{"name": "r", "encrypted_password": "planted-hash"}]);
        assert!(!format!("{:?}", parse(&spec).unwrap()).contains("planted"));
    }
}
