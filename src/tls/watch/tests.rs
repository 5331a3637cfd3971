//! Tests of the watch on real files. Tests of events have no poll.

use std::fs;
use std::os::unix::fs::symlink;

use tokio::time::Instant;

use super::*;
use crate::tls::testing::{Texts, config, fixture, new_pair, put};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);
/// A test that waits longer has found a hang.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(10);

/// The watch itself does not use these.
const REST: WatchLimits = WatchLimits {
    start: NEVER,
    poll: NEVER,
    retry: NEVER,
    settle: NEVER,
    served: NEVER,
    again: NEVER,
};
const EVENTS_ONLY: WatchLimits =
    WatchLimits { start: PATIENCE, poll: NEVER, retry: NEVER, settle: SHORT, ..REST };
const POLL_ONLY: WatchLimits =
    WatchLimits { start: PATIENCE, poll: SHORT, retry: SHORT, settle: SHORT, ..REST };

fn text_of(pair: &TlsPair) -> &str {
    std::str::from_utf8(pair.cert()).unwrap()
}

/// The next pair after `known` is the one of `texts`.
async fn finds(watch: &mut PairWatch, known: &Arc<TlsPair>, texts: &Texts) -> Arc<TlsPair> {
    let digest = known.digest();
    let found = tokio::time::timeout(PATIENCE, watch.changed(std::slice::from_ref(&digest)));
    let found = found.await.expect("the change was not seen");
    assert_eq!(text_of(&found), texts.cert);
    found
}

async fn start(dir: &Path, limits: WatchLimits) -> (PairWatch, Arc<TlsPair>) {
    let mut watch = PairWatch::start(config(dir), limits);
    let pair = watch.wait_for_pair().await.unwrap();
    (watch, pair)
}

fn rename_into(dir: &Path, texts: &Texts) {
    let new = dir.join("new");
    fs::create_dir(&new).unwrap();
    put(&new, texts);
    for name in ["tls.key", "tls.crt"] {
        fs::rename(new.join(name), dir.join(name)).unwrap();
    }
    fs::remove_dir(new).unwrap();
}

#[tokio::test]
async fn files_renamed_over_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &new_pair());
    let (mut watch, mut known) = start(dir.path(), EVENTS_ONLY).await;
    for _ in 0..3 {
        let next = new_pair();
        rename_into(dir.path(), &next);
        known = finds(&mut watch, &known, &next).await;
    }
    assert_eq!(watch.latest().unwrap().digest(), known.digest());
}

#[tokio::test]
async fn files_rewritten_in_place_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &new_pair());
    let (mut watch, known) = start(dir.path(), EVENTS_ONLY).await;
    let next = new_pair();
    put(dir.path(), &next);
    finds(&mut watch, &known, &next).await;
}

/// As Kubernetes swaps secrets: the files stay what they are, links to `..data/<name>`.
#[tokio::test]
async fn a_link_on_the_way_that_is_turned_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let version = |n: u32, texts: &Texts| {
        let folder = dir.path().join(format!("..v{n}"));
        fs::create_dir(&folder).unwrap();
        put(&folder, texts);
        symlink(format!("..v{n}"), dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        if n > 1 {
            fs::remove_dir_all(dir.path().join(format!("..v{}", n - 1))).unwrap();
        }
    };
    version(1, &new_pair());
    for name in ["tls.key", "tls.crt"] {
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let (mut watch, mut known) = start(dir.path(), EVENTS_ONLY).await;
    for n in 2..5 {
        let next = new_pair();
        version(n, &next);
        known = finds(&mut watch, &known, &next).await;
    }
}

#[tokio::test]
async fn without_events_the_poll_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &new_pair());
    // A directory that does not exist yet cannot be watched.
    let late = dir.path().join("late");
    let mut watch = PairWatch::start(config(&late), POLL_ONLY);
    let next = new_pair();
    let wait = watch.wait_for_pair();
    let (pair, ()) = tokio::join!(wait, async {
        fs::create_dir(&late).unwrap();
        put(&late, &next);
    });
    assert_eq!(text_of(&pair.unwrap()), next.cert);
}

/// The file is written through another name, in an unwatched directory, so only the poll finds it.
#[tokio::test]
async fn a_renewal_without_an_event_is_found_by_the_poll() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(elsewhere.path(), &new_pair());
    for name in ["tls.key", "tls.crt"] {
        fs::hard_link(elsewhere.path().join(name), dir.path().join(name)).unwrap();
    }
    let (mut watch, known) = start(dir.path(), POLL_ONLY).await;
    let next = new_pair();
    put(elsewhere.path(), &next);
    finds(&mut watch, &known, &next).await;
}

/// Waits until the task has read files that are, or are not, usable.
async fn has_looked(watch: &PairWatch, usable: bool) {
    let deadline = Instant::now() + PATIENCE;
    while watch.seen.borrow().failure.is_none() != usable {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(SHORT).await;
    }
}

#[tokio::test]
async fn the_same_content_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let same = new_pair();
    put(dir.path(), &same);
    let (mut watch, _) = start(dir.path(), EVENTS_ONLY).await;
    watch.seen.mark_unchanged();
    // An intermediate change shows when the same content was read again.
    put(dir.path(), &Texts { key: new_pair().key, ..same.clone() });
    has_looked(&watch, false).await;
    rename_into(dir.path(), &same);
    has_looked(&watch, true).await;
    assert!(!watch.seen.has_changed().unwrap());
}

#[tokio::test]
async fn half_a_renewal_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (old, next) = (new_pair(), new_pair());
    put(dir.path(), &old);
    let (mut watch, known) = start(dir.path(), EVENTS_ONLY).await;
    fs::write(dir.path().join("tls.crt"), &next.cert).unwrap();
    has_looked(&watch, false).await;
    assert_eq!(watch.latest().unwrap().digest(), known.digest());
    fs::write(dir.path().join("tls.key"), &next.key).unwrap();
    finds(&mut watch, &known, &next).await;
}

#[tokio::test]
async fn a_pair_that_cannot_be_checked_is_looked_at_twice() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &fixture!("p521", "p521"));
    let once = WatchLimits { start: Duration::from_millis(300), ..EVENTS_ONLY };
    PairWatch::start(config(dir.path()), once).wait_for_pair().await.unwrap_err();
    let (_watch, pair) = start(dir.path(), POLL_ONLY).await;
    assert!(pair.doubt().is_some());
}

#[tokio::test]
async fn a_start_gives_up_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let limits = WatchLimits { start: Duration::from_millis(300), ..POLL_ONLY };
    let mut watch = PairWatch::start(config(dir.path()), limits);
    let error = watch.wait_for_pair().await.unwrap_err();
    let text = crate::errors::one_line(&error);
    assert!(text.contains("300ms") && text.contains("tls.key does not exist"), "{text}");
}
