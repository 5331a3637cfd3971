//! Files that a command line names: what they hold may be anything, and the error says which file it
//! is about and what it lacks.

use std::fs::{self, File};
use std::process::Output;

use tokio::process::Command;

use crate::support::process::{client, program};

/// Nothing listens there.
const NOWHERE: [&str; 2] = ["--url", "http://127.0.0.1:1"];

#[tokio::test]
async fn a_file_without_an_end_is_given_up() {
    let [url, nowhere] = NOWHERE;
    for line in [
        &["check", "-c", "/dev/zero"][..],
        &["check", "-S", "/dev/zero"],
        &["configure", "/dev/zero", url, nowhere],
        &["status", "--token-file", "/dev/zero", url, nowhere],
        &["status", "--ca-file", "/dev/zero", url, nowhere],
        &["token", "new", "--scope", "admin", "--key", "/dev/zero"],
        &["token", "verify", "/dev/zero", "--jwks", "/dev/zero"],
    ] {
        let ran = client(line).await;
        assert_eq!(ran.code, Some(1), "{line:?}: {ran:?}");
        assert!(ran.stderr.contains("/dev/zero: it has more than "), "{line:?}: {ran:?}");
    }
}

#[tokio::test]
async fn the_error_about_a_document_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content, what) in [
        ("list", &b"[]"[..], "a JSON object is needed"),
        ("text", b"planted", "a JSON object is needed"),
        ("utf16", b"\xff\xfe{\0}\0", "save it as UTF-8"),
        ("empty", b" \n", "empty"),
        ("open", b"{\"spec\": ", "EOF"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let path = path.display().to_string();
        for line in [&["check", "-c", &path][..], &["configure", &path, NOWHERE[0], NOWHERE[1]]] {
            let ran = client(line).await;
            assert_eq!(ran.code, Some(1), "{line:?}: {ran:?}");
            // The URL has nothing to do with it.
            let begin = format!("Error: could not parse {path}: ");
            assert!(ran.stderr.starts_with(&begin) && ran.stderr.contains(what), "{ran:?}");
            assert!(!ran.stderr.contains("planted"), "{ran:?}");
        }
    }
}

async fn with_stdin(content: &str, line: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stdin");
    fs::write(&path, content).unwrap();
    let stdin = File::open(&path).unwrap();
    Command::new(program()).args(line).stdin(stdin).output().await.unwrap()
}

#[tokio::test]
async fn a_dash_is_stdin() {
    let good = r#"{"compute_ctl_config": {"jwks": {"keys": []}}}"#;
    let ran = with_stdin(good, &["check", "--config", "-"]).await;
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success() && text.ends_with("/dev/stdin can be used\n"), "{text}");
    let configure = ["configure", "-", NOWHERE[0], NOWHERE[1]];
    // It was read: the connection is what fails.
    assert_eq!(with_stdin(good, &configure).await.status.code(), Some(3));
    let bad = with_stdin("{", &configure).await;
    let text = String::from_utf8(bad.stderr).unwrap();
    assert!(text.starts_with("Error: could not parse /dev/stdin: "), "{text}");
}
