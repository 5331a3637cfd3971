//! The few settings that the program itself reads from the spec (02 §8.1, 04 §3.9).

use super::lexer::read_line;
use crate::spec::ComputeSpec;

/// Reads one line of `postgresql.conf` the way Postgres does: name and value, quotes and escapes
/// resolved. `None` for comments, empty lines and lines that Postgres refuses.
pub fn parse_line(line: &str) -> Option<(&str, String)> {
    read_line(line).ok().flatten()
}

/// The libraries that Postgres will load at start, as far as the spec tells: from the last such
/// entry of the settings list, else from the last such line of the base text. The audit block adds
/// more.
pub fn preload_libraries(spec: &ComputeSpec) -> Vec<String> {
    let text = preload_setting(spec).map(str::to_owned).or_else(|| preload_base_text(spec));
    split_libraries(&text.unwrap_or_default())
}

const PRELOAD: &str = "shared_preload_libraries";

/// The preload values of the settings list and of the base text, in this order. Postgres uses the
/// first one; extensions are fetched for both (02 §10.5).
pub fn preload_texts(spec: &ComputeSpec) -> Vec<String> {
    let setting = preload_setting(spec).map(str::to_owned);
    setting.into_iter().chain(preload_base_text(spec)).collect()
}

/// The value in the settings list that Postgres uses.
pub(super) fn preload_setting(spec: &ComputeSpec) -> Option<&str> {
    spec.setting(PRELOAD)
}

/// The value in the base text that Postgres uses.
pub(super) fn preload_base_text(spec: &ComputeSpec) -> Option<String> {
    let text = spec.cluster.postgresql_conf.as_deref()?;
    let mut settings = text.lines().rev().filter_map(parse_line);
    settings.find(|(name, _)| name.eq_ignore_ascii_case(PRELOAD)).map(|(_, value)| value)
}

/// Items of a library list, without blanks and quotes.
pub fn split_libraries(text: &str) -> Vec<String> {
    let items = text.split(',').map(|item| item.trim().trim_matches('"'));
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// `max_connections` of the settings list; if absent there, the first line of the base text with a
/// plain number (05 §5). `None` when unknown.
pub fn max_connections(spec: &ComputeSpec) -> Option<u32> {
    if let Some(value) = spec.setting("max_connections") {
        return value.parse().ok();
    }
    let number = |line: &str| {
        let (name, value) = line.split_once('=')?;
        if name.trim() == "max_connections" { value.trim().parse().ok() } else { None }
    };
    spec.cluster.postgresql_conf.as_deref()?.lines().find_map(number)
}

/// Number of databases processed concurrently at start (01 §11 step 2); at least 1.
pub fn apply_concurrency(max_connections: Option<u32>) -> u32 {
    match max_connections {
        None | Some(10..30) => 10,
        Some(few @ 0..10) => few.max(1),
        Some(many @ 30..300) => many / 3,
        Some(_) => 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(base_text: Option<&str>, settings: Value) -> ComputeSpec {
        serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0,
            "cluster": {"roles": [], "databases": [],
                "postgresql_conf": base_text, "settings": settings}
        }))
        .unwrap()
    }

    fn setting(name: &str, value: impl Into<Value>) -> Value {
        json!({"name": name, "value": value.into(), "vartype": "string"})
    }

    #[test]
    fn preloaded_libraries() {
        let base = "shared_preload_libraries=old\nshared_preload_libraries = 'neon, \"pg_x\"'\n";
        assert_eq!(preload_libraries(&spec(Some(base), Value::Null)), ["neon", "pg_x"]);
        let list = json!([
            setting("shared_preload_libraries", "a"),
            setting("Shared_Preload_Libraries", "b, neon"),
        ]);
        assert_eq!(preload_libraries(&spec(Some(base), list)), ["b", "neon"]);
        let empty = json!([setting("shared_preload_libraries", "")]);
        assert!(preload_libraries(&spec(Some(base), empty)).is_empty());
        assert!(preload_libraries(&spec(None, Value::Null)).is_empty());
    }

    #[test]
    fn max_connections_comes_from_the_list_first() {
        let base = Some("max_connections = '50'\n max_connections = 40 \nmax_connections=7\n");
        assert_eq!(max_connections(&spec(base, Value::Null)), Some(40));
        let list = |value: Value| json!([setting("max_connections", value)]);
        assert_eq!(max_connections(&spec(base, list(json!("112")))), Some(112));
        assert_eq!(max_connections(&spec(base, list(json!("many")))), None);
        assert_eq!(max_connections(&spec(base, list(Value::Null))), Some(40));
        assert_eq!(max_connections(&spec(Some("max_connections='50'"), Value::Null)), None);
        assert_eq!(max_connections(&spec(None, Value::Null)), None);
    }

    /// 05 §21 no. 28.
    #[test]
    fn concurrency_formula() {
        for (max, expected) in
            [(0, 1), (9, 9), (10, 10), (29, 10), (30, 10), (100, 33), (299, 99), (300, 100)]
        {
            assert_eq!(apply_concurrency(Some(max)), expected);
        }
        assert_eq!(apply_concurrency(None), 10);
    }
}
