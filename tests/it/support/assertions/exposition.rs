//! A strict reader of the Prometheus text format, with the rules of `promtool check metrics`.

use std::collections::{BTreeMap, BTreeSet};

/// One family of the text.
#[derive(Debug, Clone)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Names that the document prescribes although they break the rules on units.
const FIXED_UNITS: [&str; 3] = [
    "compute_pg_current_downtime_ms",
    "compute_pg_downtime_ms_total",
    "compute_ctl_tls_certificate_expiry_days",
];

/// The three kinds of samples of a histogram.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Reads the text; returns the families in their order. Of a histogram the samples are the counts.
/// Panics at the first violation.
#[track_caller]
pub fn families(text: &str) -> Vec<Family> {
    assert!(text.ends_with('\n'), "the last line ends with a line feed");
    let mut families: Vec<Family> = Vec::new();
    let mut series = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").unwrap_or_else(|| panic!("no HELP: {line:?}"));
        let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("empty HELP: {line:?}"));
        assert!(is_name(name, true), "{name:?}");
        assert!(!help.trim().is_empty(), "{name}: HELP says nothing");
        assert!(families.iter().all(|family| family.name != name), "{name} is there twice");
        let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
        let kind = kind.unwrap_or_else(|| panic!("{name} has no TYPE after its HELP"));
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{name}: {kind}");
        let (mut samples, mut bucket) = (Vec::new(), 0.0);
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let suffix = SUFFIXES
                .into_iter()
                .find(|it| line.get(name.len()..).is_some_and(|rest| rest.starts_with(it)));
            let suffix = suffix.filter(|_| kind == "histogram").unwrap_or_default();
            let (key, sample) = sample(&format!("{name}{suffix}"), line);
            assert!(series.insert(key.to_owned()), "{key} is there twice");
            match suffix {
                "_bucket" => {
                    assert!(sample.value >= bucket, "{line}: fewer than in the bucket before");
                    bucket = sample.value;
                }
                "_sum" => {}
                _ => {
                    let all = std::mem::take(&mut bucket);
                    assert!(suffix.is_empty() || sample.value == all, "{line}: {all} in buckets");
                    samples.push(sample);
                }
            }
        }
        assert!(!samples.is_empty(), "{name} has no samples");
        let family = Family { name: name.into(), kind: kind.into(), help: help.into(), samples };
        lint(&family);
        families.push(family);
    }
    families
}

/// `name{label="value",…} value`, without a time stamp.
#[track_caller]
fn sample<'a>(full_name: &str, line: &'a str) -> (&'a str, Sample) {
    let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
    let rest = key.strip_prefix(full_name);
    let rest = rest.unwrap_or_else(|| panic!("{line:?} is not of {full_name}"));
    let labels = match rest.strip_prefix('{') {
        None => {
            assert_eq!(rest, "", "{line:?}");
            BTreeMap::new()
        }
        Some(rest) => labels(rest.strip_suffix('}').unwrap_or_else(|| panic!("{line:?}"))),
    };
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
    (key, Sample { labels, value })
}

/// Names sorted and once each, values in quotes with their escapes.
#[track_caller]
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text:?}"));
        assert!(is_name(name, false) && !name.starts_with("__"), "{name:?}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("no closing quote: {text:?}")) {
                (at, '"') => break at,
                (_, '\\') => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    other => panic!("unknown escape {other:?} in {text:?}"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(
            // The bound of a bucket is the last label.
            name == "le"
                || labels
                    .last_key_value()
                    .is_none_or(|(last, _): (&String, _)| last.as_str() < name),
            "not sorted, or twice: {text:?}"
        );
        labels.insert(name.to_owned(), value);
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

fn is_name(name: &str, colons: bool) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(rest)
}

/// The rules of `promtool`.
#[track_caller]
fn lint(family: &Family) {
    let Family { name, kind, samples, .. } = family;
    assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    for suffix in ["_count", "_sum", "_bucket", "_gauge", "_counter"] {
        assert!(!name.ends_with(suffix), "{name}");
    }
    assert!(!name.contains(':'), "{name}: colons are for recording rules");
    assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
    if !FIXED_UNITS.contains(&name.as_str()) {
        for unit in ["ms", "milliseconds", "minutes", "hours", "days", "kilobytes", "megabytes"] {
            assert!(!name.split('_').any(|word| word == unit), "{name}: not a base unit");
        }
    }
    let names = |sample: &Sample| sample.labels.keys().cloned().collect::<Vec<_>>();
    for sample in samples {
        assert_eq!(names(sample), names(&samples[0]), "{name}: labels differ");
        assert!(!sample.labels.contains_key("le") && !sample.labels.contains_key("quantile"));
        assert!(sample.value.is_finite(), "{name}");
        assert!(kind == "gauge" || sample.value >= 0.0, "{name} is negative");
    }
}

#[test]
fn the_reader_is_strict() {
    let histogram = "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\n\
        a_bucket{le=\"+Inf\"} 2\na_sum 5\na_count 2\n";
    assert_eq!(families(histogram)[0].samples[0].value, 2.0);
    let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\\\"\",d=\"\"} 1\n";
    assert_eq!(families(good)[0].samples[0].labels["b"], "c\"");
    for bad in [
        "a 1\n",
        "# TYPE a gauge\na 1\n",
        "# HELP a x\na 1\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\n# TYPE a gauge\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n# TYPE a gauge\na{b=\"c\"} 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a_total x\n# TYPE a_total gauge\na_total 1\n",
        "# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n",
        "# HELP a x\n# TYPE a gauge\na one\n",
        "# HELP a x\n# TYPE a gauge\nb 1\n",
        "# HELP a x\n# TYPE a gauge\na{c=\"1\",b=\"1\"} 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"1\"} 1\na{c=\"1\"} 1\n",
        "# HELP a_total x\n# TYPE a_total counter\na_total -1\n",
        "# HELP a x\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 5\na_count 2\n",
    ] {
        assert!(std::panic::catch_unwind(|| families(bad)).is_err(), "{bad:?}");
    }
}
