//! Durations in the log have their unit.
//!
//! **The rule: a duration that a log statement turns into a number is followed by `ms`, `s` or
//! `seconds`.** The debug form of a duration has its unit in it.

use super::sources;

/// What turns a duration into a number.
const CONVERSIONS: [&str; 6] =
    [".as_secs()", ".as_secs_f64()", ".as_millis()", ".as_micros()", "millis(", "millis_since("];

/// What may follow a placeholder.
const UNITS: [&str; 4] = ["ms", "s", "seconds", "us"];

/// Texts that log pipelines know as they are.
const KNOWN: [&str; 1] = ["[NEON_EXT_INT_SLEEP]: Interval: "];

/// The log statements of a source, each up to its last parenthesis.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("tracing::").filter_map(|(at, _)| {
        let statement = text.get(at..)?;
        let (name, rest) = statement.strip_prefix("tracing::")?.split_once("!(")?;
        if !["error", "warn", "info", "debug", "trace"].contains(&name) {
            return None;
        }
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        })?;
        rest.get(..end)
    })
}

/// Whether a unit is missing.
fn lacks_unit(statement: &str) -> bool {
    let count = |text: &&str| statement.matches(*text).count();
    let conversions: usize = CONVERSIONS.iter().map(count).sum();
    // `as_millis()` is not `millis(`.
    let conversions = conversions - statement.matches("as_millis(").count();
    let units = statement.split('}').skip(1).filter(|after| {
        let after = after.trim_start();
        UNITS.iter().any(|unit| {
            after.strip_prefix(unit).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        })
    });
    !KNOWN.iter().any(|known| statement.contains(known)) && units.count() < conversions
}

#[test]
fn durations_in_the_log_have_units() {
    let mut faults = Vec::new();
    let mut conversions = 0;
    for source in sources() {
        for statement in statements(&source.text) {
            conversions += usize::from(CONVERSIONS.iter().any(|it| statement.contains(it)));
            if lacks_unit(statement) {
                faults.push(format!("{}: {statement}", source.name));
            }
        }
    }
    assert!(conversions >= 5, "only {conversions} statements have durations");
    assert!(faults.is_empty(), "a duration without a unit:\n{}", faults.join("\n"));
}

#[test]
fn a_missing_unit_is_found() {
    for (statement, lacks) in [
        (r#""took {} ms", millis(x)"#, false),
        (r#""took {:.1} seconds (at {y})", x.as_secs_f64()"#, false),
        (r#""took {}ms and {} s", x.as_millis(), y.as_secs()"#, false),
        (r#""took {x:?}""#, false),
        (r#""took {}", millis(x)"#, true),
        (r#""took {} ms of {}", x.as_millis(), y.as_secs()"#, true),
        (r#""took {} msec", x.as_millis()"#, true),
    ] {
        assert_eq!(lacks_unit(statement), lacks, "{statement}");
    }
    let text = "tracing::info!(a = f(1), \"x\"); tracing::Span::none(); tracing::warn!(\"y\")";
    assert_eq!(statements(text).collect::<Vec<_>>(), ["a = f(1), \"x\"", "\"y\""]);
}
