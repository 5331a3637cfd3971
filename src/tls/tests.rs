//! Tests of the driver's TLS state.

use std::fs;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::tls::testing::{config, new_pair, put};

fn spec(features: &[&str]) -> ComputeSpec {
    serde_json::from_value(json!({
        "format_version": 1, "suspend_timeout_seconds": 0, "features": features,
        "cluster": {"roles": [], "databases": []}
    }))
    .unwrap()
}

fn on() -> ComputeSpec {
    spec(&["zzz", "tls_experimental"])
}

/// A directory with a pair, a PGDATA, and the state.
fn place() -> (tempfile::TempDir, tempfile::TempDir, TlsState) {
    let (files, pgdata) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(files.path(), &new_pair());
    let limits = WatchLimits { settle: Duration::from_millis(10), ..WatchLimits::default() };
    let state = TlsState::new(Some(config(files.path())), limits, Metrics::new().unwrap());
    (files, pgdata, state)
}

fn shows_expiry(state: &TlsState) -> bool {
    state.metrics.render().unwrap().contains("compute_ctl_tls_certificate_expiry_days")
}

#[test]
fn both_conditions_make_it_active() {
    let config = config(Path::new("/x"));
    assert!(is_active(Some(&config), &on()));
    assert!(!is_active(Some(&config), &spec(&["zzz"])));
    assert!(!is_active(None, &on()));
}

#[tokio::test]
async fn inactive_waits_for_nothing_and_touches_nothing() {
    let (files, pgdata, mut state) = place();
    fs::remove_file(files.path().join("tls.crt")).unwrap();
    state.follow(&spec(&[]));
    assert!(state.wait_for_pair().await.unwrap().is_none());
    state.install_present(pgdata.path()).await;
    assert_eq!(fs::read_dir(pgdata.path()).unwrap().count(), 0);
    let never = tokio::time::timeout(Duration::from_millis(1), state.changed());
    assert!(never.await.is_err());
}

#[tokio::test]
async fn what_the_start_used_is_no_change_afterwards() {
    let (files, pgdata, mut state) = place();
    state.follow(&on());
    let pair = state.wait_for_pair().await.unwrap().unwrap();
    assert_eq!(state.install(pgdata.path(), &pair).unwrap(), Installed::Changed);
    assert!(shows_expiry(&state));
    let next = new_pair();
    let (changed, ()) = tokio::join!(state.changed(), async { put(files.path(), &next) });
    assert_eq!(changed.cert(), next.cert.as_bytes(), "01 §24 no. 26: not the first one again");
    state.follow(&spec(&[]));
    assert!(!shows_expiry(&state));
}

#[tokio::test]
async fn a_reconfiguration_takes_what_is_there_or_leaves_what_it_has() {
    let (files, pgdata, mut state) = place();
    let copy = || fs::read_to_string(pgdata.path().join("server.crt"));
    let (first, second) = (new_pair(), new_pair());
    put(files.path(), &first);
    state.follow(&on());
    state.install_present(pgdata.path()).await;
    assert_eq!(copy().unwrap(), first.cert);
    // Half of a renewal.
    fs::write(files.path().join("tls.key"), &second.key).unwrap();
    state.install_present(pgdata.path()).await;
    assert_eq!(copy().unwrap(), first.cert);
    fs::write(files.path().join("tls.crt"), &second.cert).unwrap();
    state.install_present(pgdata.path()).await;
    assert_eq!(copy().unwrap(), second.cert);
}

#[tokio::test(start_paused = true)]
async fn an_installation_that_failed_is_tried_again_later() {
    let (_files, pgdata, mut state) = place();
    state.follow(&on());
    let pair = state.wait_for_pair().await.unwrap().unwrap();
    state.install(&pgdata.path().join("no"), &pair).unwrap_err();
    let began = Instant::now();
    let again = state.changed().await;
    assert_eq!(again.digest(), pair.digest());
    assert!(began.elapsed() >= state.limits.poll);
}

#[tokio::test]
async fn what_the_watch_saw_before_a_reconfiguration_does_not_come_back() {
    let (files, pgdata, mut state) = place();
    // The watch reads the files once and never again.
    let never = Duration::from_secs(3600);
    state.limits = WatchLimits { settle: never, poll: never, ..state.limits };
    state.follow(&on());
    let pair = state.wait_for_pair().await.unwrap().unwrap();
    let _ = state.install(pgdata.path(), &pair).unwrap();
    let next = new_pair();
    put(files.path(), &next);
    state.install_present(pgdata.path()).await;
    let nothing_new = tokio::time::timeout(Duration::from_millis(500), state.changed());
    assert!(nothing_new.await.is_err());
}

/// Postgres may only have been slow.
#[tokio::test(start_paused = true)]
async fn a_pair_that_was_refused_is_offered_again_much_later() {
    let (files, pgdata, mut state) = place();
    state.follow(&on());
    let first = state.wait_for_pair().await.unwrap().unwrap();
    let _ = state.install(pgdata.path(), &first).unwrap();
    let next = new_pair();
    put(files.path(), &next);
    let offered = state.changed().await;
    assert_eq!(offered.cert(), next.cert.as_bytes());
    let again = state.limits.again;
    state.refused = Some((offered.digest(), Instant::now() + again));
    let began = Instant::now();
    assert_eq!(state.changed().await.digest(), offered.digest());
    assert!(began.elapsed() >= again);
}
