//! What the program tells about itself: the log, what shows it, and traces.

mod log_journal;
mod log_json;
mod log_level;
mod log_recent;
mod log_requests;
mod secrets_everywhere;
mod traces_collector;
mod traces_off;
mod traces_secrets;
mod traces_start;
mod traces_success;
mod traces_work;

use serde_json::Value;

use crate::support::process::Compute;

/// The lines of a log in JSON; each must be an object with the members that all records have.
fn records(compute: &Compute) -> Vec<Value> {
    let log = compute.log_bytes();
    // The last line may not be written to its end.
    let lines = log.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| line.strip_suffix(b"\n")).filter(|line| !line.is_empty());
    lines.map(record).collect()
}

fn record(line: &[u8]) -> Value {
    let shown = String::from_utf8_lossy(line);
    let record: Value = serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e}: {shown}"));
    for member in ["timestamp", "level", "source", "message"] {
        assert!(record[member].is_string(), "{member}: {shown}");
    }
    record
}

fn find<'a>(records: &'a [Value], text: &str) -> &'a Value {
    let has = |record: &&Value| record["message"].as_str().unwrap().contains(text);
    let record = records.iter().find(has);
    record.unwrap_or_else(|| panic!("no record with {text:?} in {records:#?}"))
}

/// Asserts how often a peer was tried with this outcome.
async fn assert_tries(compute: &Compute, peer: &str, outcome: &str, number: u64) {
    let (_, text) = compute.get("/metrics").await;
    let series = format!(
        "compute_ctl_storage_tries_total{{outcome=\"{outcome}\",peer=\"{peer}\"}} {number}"
    );
    let text = text.as_str().unwrap();
    assert!(text.lines().any(|line| line == series), "{series}: {text}");
}
