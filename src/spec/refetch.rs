//! What a repeated fetch of the configuration costs: its limits, and which differences between two
//! documents are small.

use std::time::Duration;

use super::pageserver::PageserverConnectionInfo;
use super::wire::ComputeSpec;
use crate::secret::Secret;

/// Limits of refreshes (01 §13.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshLimits {
    /// First pause after a failed refresh; doubles each time (03 W8).
    pub first_pause: Duration,
    /// Longest pause after a failed refresh.
    pub longest_pause: Duration,
    /// After a refresh that found nothing new the next fetch waits for so long (03 §6.4).
    pub rest: Duration,
    /// How long a request waits for the end of a refresh under way. Postgres waits 3 s for its
    /// answer, and counts a refusal as a failure.
    pub joined: Duration,
}

impl Default for RefreshLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            first_pause: seconds(5),
            longest_pause: seconds(60),
            rest: seconds(5),
            joined: seconds(2),
        }
    }
}

/// Whether two specs differ in nothing but tokens, passwords in connection strings, and
/// `operation_uuid`. A control plane may put fresh ones into each answer.
pub(crate) fn same_but_for_tokens(one: &ComputeSpec, other: &ComputeSpec) -> bool {
    without_tokens(one) == without_tokens(other)
}

fn without_tokens(spec: &ComputeSpec) -> ComputeSpec {
    let mut spec = spec.clone();
    spec.operation_uuid = None;
    spec.storage_auth_token = None;
    spec.endpoint_storage_token = None;
    strip(&mut spec.pageserver_connstring);
    if let Some(PageserverConnectionInfo { shards, .. }) = &mut spec.pageserver_connection_info {
        for pageserver in shards.values_mut().flat_map(|shard| &mut shard.pageservers) {
            strip(&mut pageserver.libpq_url);
            strip(&mut pageserver.grpc_url);
        }
    }
    for setting in spec.cluster.settings.iter_mut().flatten() {
        if setting.name.to_ascii_lowercase().ends_with("_token") {
            setting.value = setting.value.as_ref().map(|_| String::new());
        } else if let Some(value) = &mut setting.value {
            *value = without_passwords(value);
        }
    }
    if let Some(text) = &mut spec.cluster.postgresql_conf {
        *text = without_passwords(text);
    }
    spec
}

fn strip(connstring: &mut Option<Secret<String>>) {
    *connstring = connstring.as_ref().map(|text| Secret::new(without_passwords(text.expose())));
}

/// The text without the passwords of its URLs and keyword strings.
fn without_passwords(text: &str) -> String {
    const KEYWORD: &str = "password=";
    let is_end = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | ',' | '\'' | '"');
    let (mut left, mut kept) = (text, String::with_capacity(text.len()));
    while let Some(at) = left.find("://").into_iter().chain(left.find(KEYWORD)).min() {
        let (before, rest) = left.split_at(at);
        kept.push_str(before);
        let (mark, rest) = rest.split_at(if rest.starts_with(KEYWORD) { KEYWORD.len() } else { 3 });
        kept.push_str(mark);
        let (part, rest) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
        if mark != KEYWORD {
            // A password may hold an `@`.
            match part.rsplit_once('@') {
                Some((login, host)) => {
                    kept.push_str(login.split(':').next().unwrap_or_default());
                    kept.push('@');
                    kept.push_str(host);
                }
                None => kept.push_str(part),
            }
        }
        left = rest;
    }
    kept.push_str(left);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(change: impl Fn(&mut Value)) -> ComputeSpec {
        let mut spec = json!({
            "format_version": 1, "suspend_timeout_seconds": 0, "operation_uuid": "o",
            "storage_auth_token": "t", "endpoint_storage_token": "t",
            "pageserver_connstring": "postgresql://u:one@h:1/d,host=h password=one user=u",
            "pageserver_connection_info": {"shard_count": 0, "shards": {"0000": {"pageservers": [
                {"libpq_url": "postgresql://u:one@h:1", "grpc_url": "grpc://h:1"}]}}},
            "cluster": {"roles": [], "databases": [], "postgresql_conf": "a='postgres://u:one@h'",
                "settings": [
                    {"name": "work_mem", "value": "1MB", "vartype": "string"},
                    {"name": "neon.endpoint_storage_token", "value": "t", "vartype": "string"},
                    {"name": "primary_conninfo", "value": "host=h password=one", "vartype": "string"}
                ]}
        });
        change(&mut spec);
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn tokens_are_a_small_difference() {
        let small: [fn(&mut Value); 8] = [
            |spec| spec["operation_uuid"] = json!("other"),
            |spec| spec["storage_auth_token"] = json!("other"),
            |spec| spec["endpoint_storage_token"] = Value::Null,
            |spec| {
                spec["pageserver_connstring"] =
                    json!("postgresql://u:t@w:o@h:1/d,host=h password=two user=u");
            },
            |spec| {
                let url = "postgresql://u:two@h:1";
                spec["pageserver_connection_info"]["shards"]["0000"]["pageservers"][0]["libpq_url"] =
                    json!(url);
            },
            |spec| spec["cluster"]["postgresql_conf"] = json!("a='postgres://u:two@h'"),
            |spec| spec["cluster"]["settings"][1]["value"] = json!("other"),
            |spec| spec["cluster"]["settings"][2]["value"] = json!("host=h password=two"),
        ];
        for change in small {
            assert!(same_but_for_tokens(&spec(|_| {}), &spec(change)));
        }
        let large: [fn(&mut Value); 6] = [
            |spec| spec["cluster"]["roles"] = json!([{"name": "ann"}]),
            |spec| spec["mode"] = json!("Replica"),
            |spec| spec["pageserver_connstring"] = json!("postgresql://u:one@other:1/d"),
            |spec| spec["cluster"]["postgresql_conf"] = json!("a='postgres://u:one@other'"),
            |spec| spec["cluster"]["settings"][0]["value"] = json!("2MB"),
            |spec| spec["cluster"]["settings"][2]["value"] = json!("host=other password=one"),
        ];
        for change in large {
            assert!(!same_but_for_tokens(&spec(|_| {}), &spec(change)));
        }
    }

    #[test]
    fn texts_without_their_passwords() {
        for (text, expected) in [
            ("", ""),
            ("a://u:p@h/x:y@z", "a://u@h/x:y@z"),
            ("a://u@h", "a://u@h"),
            ("a://h:1?b@c", "a://h:1?b@c"),
            ("a://:p@h,b://u:p@i", "a://@h,b://u@i"),
            ("x password=p y=://", "x password= y=://"),
            ("password='p q'", "password='p q'"),
        ] {
            assert_eq!(without_passwords(text), expected, "{text}");
        }
    }
}
