//! The log of a life: every change of the status is in the table of the program.

use std::collections::HashSet;

use compute_ctl::state::{ComputeStatus, Event, transition};

/// Each change is in the table, and begins where the last one ended.
pub fn assert_legal(log: &str) {
    let table = |from: ComputeStatus| {
        Event::ALL.into_iter().filter_map(move |event| Some((from, transition(from, event)?)))
    };
    let legal: HashSet<(String, String)> = ComputeStatus::ALL
        .into_iter()
        .flat_map(table)
        .map(|(from, to)| (from.to_string(), to.to_string()))
        .collect();
    let mut now: Option<String> = None;
    for line in log.lines() {
        let Some((_, change)) = line.split_once("Changing compute status from ") else { continue };
        let (from, to) = change.split_once(" to ").unwrap();
        let change = (from.to_owned(), to.to_owned());
        assert!(legal.contains(&change), "{line}\n{log}");
        assert!(now.is_none_or(|now| now == from), "{line}\n{log}");
        now = Some(change.1);
    }
    assert!(now.is_some(), "{log}");
}
