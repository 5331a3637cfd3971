//! The description says by a pattern which durations a request may have. The pattern accepts exactly
//! what the server reads, so a client that checks its requests refuses none that the server takes.

use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::http::{log_level, routes, wait};

/// The schemas of all durations in requests, by the operation.
fn described() -> Vec<(String, Value)> {
    let document = serde_json::to_value(routes::document()).unwrap();
    let timeout = |path: &str| {
        let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap();
        let parameter = parameters.iter().find(|it| it["name"] == "timeout").unwrap();
        (path.to_owned(), parameter["schema"].clone())
    };
    let level = &document["components"]["schemas"]["LogLevelRequest"]["properties"]["for"];
    vec![timeout("/log"), timeout("/status"), ("/log_level".to_owned(), level.clone())]
}

fn server_reads(operation: &str, text: &str) -> bool {
    match operation {
        "/log_level" => log_level::limit(text).is_ok(),
        _ => wait::limit(text).is_ok(),
    }
}

/// A text that is a duration or nearly one.
fn texts(pattern: &str) -> impl Strategy<Value = String> + use<> {
    let near = |number: u64| (number.saturating_sub(3)..=number + 3).boxed();
    let limits =
        [0, 5, 300, 1_440, 86_400, 99_999, 300_000, 86_400_000, u64::MAX / 60, u64::MAX - 3];
    let numbers = limits.into_iter().map(near).chain([any::<u64>().boxed()]);
    let numbers = proptest::strategy::Union::new(numbers);
    let units =
        select(vec!["", "ms", "s", "m", "h", "S", "Ms", " s", "s ", "\n", "mss", "\u{b5}s"]);
    let written = ("0{0,30}", numbers, units)
        .prop_map(|(zeros, number, unit)| format!("{zeros}{number}{unit}"));
    let own = pattern.trim_start_matches('^').trim_end_matches('$').replace("0*", "0{0,3}");
    let own = proptest::string::string_regex(&own).unwrap();
    prop_oneof![3 => written, 2 => own, 1 => "[0-9ms.+-]{0,8}", 1 => "\\PC{0,6}"]
}

#[test]
fn patterns_accept_what_the_server_reads() {
    for (operation, schema) in described() {
        let pattern = schema["pattern"].as_str().unwrap_or_else(|| panic!("{operation}: none"));
        assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{pattern}");
        let validator: Validator = jsonschema::validator_for(&schema).unwrap();
        let config = ProptestConfig::with_cases(4000);
        proptest!(config, |(text in texts(pattern))| {
            let (described, read) = (validator.is_valid(&json!(text)), server_reads(&operation, &text));
            prop_assert_eq!(described, read, "{}: {:?}", operation, text);
        });
    }
}
