//! How many databases an apply works on at a time (05 §5).

use crate::spec::ComputeSpec;

/// The limit when `max_connections` is not known.
const UNKNOWN: usize = 10;
/// The upper bound of every limit.
const MAX_SESSIONS: usize = 100;
/// Connections that the workers of an apply leave free: for its main session, the monitor,
/// migrations, and a session that looks at the server, such as the lock watch (05 weakness 4).
const LEFT_TO_OTHERS: usize = 4;

/// The limit at the start of a primary. Users are not expected yet, so it is a share of
/// `max_connections`.
pub(crate) fn at_start(spec: &ComputeSpec) -> usize {
    match max_connections(spec) {
        None => UNKNOWN,
        Some(n) if n < 10 => n,
        Some(n) if n < 30 => 10,
        Some(n) => (n / 3).min(MAX_SESSIONS),
    }
}

/// The limit for a running compute: what the spec says, and at least one (02 W5).
pub(crate) fn at_reconfiguration(spec: &ComputeSpec) -> usize {
    spec.reconfigure_concurrency.max(1)
}

/// Lowers the limit so that [`LEFT_TO_OTHERS`] of so many connections stay free.
pub(crate) fn within(limit: usize, max_connections: usize) -> usize {
    limit.min(max_connections.saturating_sub(LEFT_TO_OTHERS)).max(1)
}

/// `max_connections` from the list of settings, else from the first line of the base text where it
/// is only a number.
fn max_connections(spec: &ComputeSpec) -> Option<usize> {
    if let Some(value) = spec.setting("max_connections") {
        return value.parse().ok();
    }
    let lines = spec.cluster.postgresql_conf.as_deref().unwrap_or_default().lines();
    let pairs = lines.filter_map(|line| line.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim() == "max_connections");
    values.find_map(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(setting: Option<&str>, text: &str) -> ComputeSpec {
        let setting = setting
            .map(|value| json!({"name": "max_connections", "value": value, "vartype": "integer"}));
        serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0,
            "cluster": {"roles": [], "databases": [], "postgresql_conf": text,
                "settings": setting.into_iter().collect::<Vec<_>>()}
        }))
        .unwrap()
    }

    /// 05 §21 no. 28.
    #[test]
    fn a_share_of_max_connections() {
        for (value, limit) in [
            ("9", 9),
            ("10", 10),
            ("29", 10),
            ("30", 10),
            ("100", 33),
            ("299", 99),
            ("300", 100),
            ("5000", 100),
        ] {
            assert_eq!(at_start(&spec(Some(value), "")), limit, "{value}");
            let text = format!("port = 1\nmax_connections = {value}\nmax_connections=1");
            assert_eq!(at_start(&spec(None, &text)), limit, "{value}");
        }
        assert_eq!(at_start(&spec(None, "")), UNKNOWN);
        assert_eq!(at_start(&spec(None, "max_connections = '50'")), UNKNOWN);
        assert_eq!(at_start(&spec(None, "max_connections = '50'\nmax_connections=60")), 20);
        assert_eq!(at_start(&spec(Some("many"), "max_connections = 50")), UNKNOWN);
    }

    #[test]
    fn a_running_compute_uses_the_limit_of_the_spec() {
        let mut spec = spec(Some("100"), "");
        assert_eq!(at_reconfiguration(&spec), 1);
        spec.reconfigure_concurrency = 0;
        assert_eq!(at_reconfiguration(&spec), 1);
        spec.reconfigure_concurrency = 7;
        assert_eq!(at_reconfiguration(&spec), 7);
    }

    #[test]
    fn some_connections_are_left() {
        for (limit, connections, within_it) in [(33, 100, 33), (9, 9, 5), (1, 3, 1), (500, 100, 96)]
        {
            assert_eq!(within(limit, connections), within_it);
        }
    }
}
