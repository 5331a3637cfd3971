//! Properties of the readers of documents, connection strings and ids, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::fmt::Debug;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_postgres::Config;

use super::bare::BareSpec;
use super::document;
use super::grpc_url::GrpcAddress;
use super::host_port::split_host_port;
use super::ids::{Lsn, ShardIndex, TenantId, TimelineId};
use super::libpq_options::without_idle_options;
use super::libpq_url::LibpqAddress;
use super::parsed::ParsedSpec;
use super::wire::{ComputeSpec, ConfigDocument};
use crate::fuzzing::lines;

/// Stands for a secret in the inputs. It is neither an address nor like a placeholder, which errors
/// may show.
const SECRET: &str = "planted/secret";

/// A whole configuration.
pub(crate) fn config(data: &[u8]) {
    let spec = |document: ConfigDocument| document.spec;
    if let Some(Some(spec)) = read_twice(data, spec) {
        let _ = parsed(spec);
    }
}

/// A bare spec that can be used.
pub(crate) fn bare_spec(data: &[u8]) -> Option<ParsedSpec> {
    parsed(read_twice(data, |BareSpec(spec)| Some(spec))??)
}

/// Reads a document, and what a control plane that has read it would write; both are the same.
fn read_twice<T: DeserializeOwned>(
    data: &[u8],
    spec: fn(T) -> Option<ComputeSpec>,
) -> Option<Option<ComputeSpec>> {
    let comparable = |value: T| {
        let mut spec = spec(value)?;
        // One is rounded twice; and two spellings of a shard may be in another order.
        (spec.format_version, spec.pageserver_connection_info) = (0.0, None);
        Some(spec)
    };
    let first = document::parse::<T>(data);
    let members: Option<Value> = serde_json::from_slice(data).ok();
    let first = match first {
        Ok(first) => first,
        Err(error) => {
            let text = error.to_string();
            // Names of members and of variants are shown.
            let may_show =
                members.as_ref().is_none_or(has_secret_name) || text.contains("unknown variant");
            assert!(may_show || !text.contains(SECRET), "{text}");
            return None;
        }
    };
    assert!(first.unknown_members.len() <= 1000);
    assert!(first.unknown_members.iter().all(|name| name.len() < 4096));
    let again = members?.to_string();
    let unknown = first.unknown_members.len();
    let second = document::parse::<T>(again.as_bytes()).expect("the same document");
    assert!(second.unknown_members.len() <= unknown, "{again}");
    assert_eq!(comparable(first.value), comparable(second.value));
    let once_more = document::parse::<T>(data).ok()?;
    Some(spec(once_more.value))
}

fn has_secret_name(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(has_secret_name),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.contains(SECRET) || has_secret_name(value))
        }
        _ => false,
    }
}

fn parsed(spec: ComputeSpec) -> Option<ParsedSpec> {
    match ParsedSpec::try_from(spec) {
        Ok(parsed) => {
            assert!(parsed.safekeepers.iter().all(|it| split_host_port(it).is_some()));
            parsed.pageserver.validate().expect("it was checked");
            Some(parsed)
        }
        Err(error) => {
            let text = error.to_string();
            // The name of an option of a connection string.
            assert!(text.contains("option") || !text.contains(SECRET), "{text}");
            None
        }
    }
}

/// A connection string.
pub(crate) fn libpq_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<LibpqAddress>() {
        assert!(!address.hosts().is_empty());
        assert_eq!(address.to_string(), address.hosts()[0].to_string());
    }
    if let Some(kept) = without_idle_options(text) {
        if let Ok(config) = text.parse::<Config>() {
            let kept = kept.parse::<Config>().expect("only idle options are left out");
            assert_eq!(main_parts(&config), main_parts(&kept));
        }
        assert_eq!(without_idle_options(&kept), Some(kept));
    }
    if text.contains(SECRET) {
        return;
    }
    for hiding in [format!("{text} password={SECRET}"), format!("postgresql://u:{SECRET}@{text}")] {
        match hiding.parse::<LibpqAddress>() {
            Ok(address) => {
                let is_password = address.config().get_password() == Some(SECRET.as_bytes());
                assert!(!is_password || !format!("{address:?} {address}").contains(SECRET));
            }
            Err(error) => {
                let shown = format!("{error} {error:?}");
                assert!(!shown.contains(SECRET), "{shown}");
            }
        }
    }
}

fn main_parts(config: &Config) -> impl Debug + PartialEq {
    (
        (config.get_hosts().to_vec(), config.get_hostaddrs().to_vec(), config.get_ports().to_vec()),
        config.get_user().map(str::to_owned),
        config.get_password().map(<[u8]>::to_vec),
        (config.get_dbname().map(str::to_owned), config.get_options().map(str::to_owned)),
        config.get_connect_timeout().copied(),
    )
}

/// The short texts of 02 §3.
pub(crate) fn scalars(data: &[u8]) {
    let Some(([id, lsn, shard, address], url)) = lines(data) else { return };
    if let Some(tenant) = kept::<TenantId>(id) {
        assert_eq!(tenant.to_string(), id.to_ascii_lowercase());
    }
    kept::<TimelineId>(id);
    if kept::<Lsn>(lsn).is_some() {
        let trimmed = lsn.trim();
        assert_eq!(trimmed.matches('/').count(), 1);
        assert!(trimmed.bytes().all(|b| b.is_ascii_hexdigit() || b == b'/' || b == b'+'));
    }
    if let Some(shard_index) = kept::<ShardIndex>(shard) {
        assert_eq!(shard_index.to_string(), shard.to_ascii_lowercase());
    }
    if let Some((host, port)) = split_host_port(address) {
        assert_eq!(split_host_port(&format!("{host}:{port}")), Some((host, port)));
    }
    if let Ok(address) = url.parse::<GrpcAddress>() {
        assert_eq!(format!("grpc://{address}").parse().as_ref(), Ok(&address));
        // What the connection is made of.
        let uri = format!("http://{address}").parse::<axum::http::Uri>();
        let uri = uri.expect("an accepted URL can be used");
        assert_eq!(uri.authority().map(ToString::to_string), Some(address.to_string()));
    }
    if let Err(error) = format!("grpc://u:{SECRET}@{url}").parse::<GrpcAddress>() {
        assert!(!format!("{error} {error:?}").contains(SECRET));
    }
}

/// A value whose text is read as the same value.
fn kept<T: FromStr + ToString + PartialEq + Debug>(text: &str) -> Option<T>
where
    T::Err: Debug,
{
    let value = text.parse::<T>().ok()?;
    assert_eq!(value.to_string().parse::<T>().unwrap(), value);
    Some(value)
}
