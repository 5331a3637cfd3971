//! `deploy/last-release`, in repositories of a few files and with a stand-in for cargo.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Counts its runs, and says which sources it has seen.
const CARGO: &str = r#"#!/bin/sh
set -e
echo "$*" >> "$CARGO_RUNS"
mkdir -p "$CARGO_TARGET_DIR/release"
cat src/main.rs > "$CARGO_TARGET_DIR/release/compute_ctl"
echo "$GIT_HASH" >> "$CARGO_TARGET_DIR/release/compute_ctl"
chmod 755 "$CARGO_TARGET_DIR/release/compute_ctl"
"#;

struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Self {
        let repository = Self(tempfile::tempdir().unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/last-release");
        for folder in ["bin", "clone/deploy"] {
            fs::create_dir_all(repository.path(folder)).unwrap();
        }
        fs::copy(script, repository.path("clone/deploy/last-release")).unwrap();
        fs::write(repository.path("bin/cargo"), CARGO).unwrap();
        fs::set_permissions(repository.path("bin/cargo"), fs::Permissions::from_mode(0o755))
            .unwrap();
        repository.git("clone", &["init", "--quiet"]);
        repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("CARGO_RUNS", self.path("runs"))
            .env("HOME", self.0.path())
            .env("GIT_CEILING_DIRECTORIES", self.0.path())
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("COMPUTE_CTL_OLD_PROGRAM");
        command
    }

    #[track_caller]
    fn git(&self, folder: &str, args: &[&str]) -> String {
        let mut command = self.command("git");
        let identity = ["-c", "user.name=n", "-c", "user.email=n@localhost"];
        let output = command.current_dir(self.path(folder)).args(identity).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, name: &str, text: &str) -> String {
        let path = self.path("clone").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.git("clone", &["add", "."]);
        self.git("clone", &["commit", "--quiet", "--message", name]);
        self.git("clone", &["rev-parse", "HEAD"])
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).map_or(0, |text| text.lines().count())
    }

    fn last_release(&self, folder: &str) -> Output {
        let output = self.command(self.path(folder).join("deploy/last-release")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }

    /// Nothing is printed and nothing built; the reason.
    #[track_caller]
    fn none(&self, folder: &str) -> String {
        let before = self.runs();
        let output = self.last_release(folder);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
        assert_eq!(self.runs(), before);
        String::from_utf8(output.stderr).unwrap()
    }

    /// What the printed program holds.
    #[track_caller]
    fn program(&self) -> String {
        let output = self.last_release("clone");
        let path = String::from_utf8(output.stdout).unwrap();
        fs::read_to_string(path.trim_end()).unwrap()
    }
}

#[test]
fn the_newest_earlier_tag_is_built_once() {
    let repository = Repository::new();
    let first = repository.commit("src/main.rs", "one\n");
    assert!(repository.none("clone").contains("no tag v… before this commit"));
    repository.git("clone", &["tag", "v0.1.0"]);
    assert!(repository.none("clone").contains("no tag v… before this commit"), "it is HEAD's own");
    repository.commit("README.md", "text\n");
    assert!(repository.none("clone").contains("the program is that of v0.1.0"));

    repository.commit("src/main.rs", "two\n");
    for _ in 0..2 {
        assert_eq!(repository.program(), format!("one\n{first}\n"));
        assert_eq!(repository.runs(), 1);
    }
    // The commit of the next release is still compared with the one before it.
    repository.git("clone", &["tag", "v0.2.0"]);
    repository.git("clone", &["tag", "other"]);
    assert_eq!(repository.program(), format!("one\n{first}\n"));
    assert_eq!(repository.runs(), 1);

    let moved = repository.git("clone", &["rev-parse", "HEAD"]);
    repository.commit("src/main.rs", "three\n");
    assert_eq!(repository.program(), format!("two\n{moved}\n"));
    assert_eq!(repository.runs(), 2);
    assert!(!repository.path("clone/target/releases/build").exists());
}

#[test]
fn without_history_it_says_why_there_is_none() {
    let repository = Repository::new();
    repository.commit("src/main.rs", "one\n");
    repository.git("clone", &["tag", "v0.1.0"]);
    repository.commit("src/main.rs", "two\n");
    let from = format!("file://{}", repository.path("clone").display());
    repository.git("", &["clone", "--quiet", "--depth", "1", &from, "shallow"]);
    assert!(repository.none("shallow").contains("git fetch --unshallow --tags"));
    repository.git("", &["clone", "--quiet", "--no-tags", &from, "untagged"]);
    assert!(repository.none("untagged").contains("no tag v… before this commit"));
    fs::remove_dir_all(repository.path("untagged/.git")).unwrap();
    assert!(repository.none("untagged").contains("no tag v… before this commit"));
}
