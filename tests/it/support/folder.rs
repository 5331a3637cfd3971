//! Files and folders as the scenarios look at them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{PATIENCE, hand_over};

/// How often [`eventually`] looks.
const POLL: Duration = Duration::from_millis(10);

/// Writes a file that belongs to the run-as user, and the folders that it needs.
pub fn put(path: &Path, text: &str) {
    let parent = path.parent().unwrap();
    if !parent.exists() {
        fs::create_dir_all(parent).unwrap();
        hand_over(parent);
    }
    fs::write(path, text).unwrap();
    hand_over(path);
}

/// Names in a folder, sorted; none if it does not exist.
pub fn names(path: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<_> =
        listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits for something that is done in the background.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(POLL).await;
    }
}
