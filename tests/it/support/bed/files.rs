//! Helpers for files and folders.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::bed::hand_over;

/// Writes a file that belongs to the run-as user, and its folders.
pub fn put(path: &Path, text: &str) {
    let missing: Vec<_> = path.ancestors().skip(1).take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        fs::create_dir(dir).unwrap();
        hand_over(dir);
    }
    fs::write(path, text).unwrap();
    hand_over(path);
}

/// Writes a shell script, by a shell: a program file that this process wrote itself could still be
/// open in a child that another test is starting, and then it cannot be executed.
pub fn put_program(path: &Path, script: &str) {
    let parent = path.parent().unwrap();
    fs::create_dir_all(parent).unwrap();
    let write = r##"rm -f "$1" && printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""##;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", write, "sh"]).arg(path).arg(script);
    assert!(shell.output().unwrap().status.success());
}

/// Names in a folder, sorted; none if it does not exist.
pub fn names(path: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<_> =
        listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
