//! Commands on the pages: each block is run, or says why not.
//!
//! The blocks of a page that are marked as `sh` run one after the other, in a scratch folder of their
//! own, as a reader would type them. A block must succeed. A comment on the line before it says
//! otherwise:
//!
//! - `<!-- not run: REASON -->`: it is left out.
//! - `<!-- prints: TEXT -->`: the output must contain the text, too.
//! - `<!-- fails: TEXT -->`: it must fail, and its output must contain the text.
//! - `<!-- stays: TEXT -->`: it continues in the background once its output contains the text; it
//!   is one command, and is ended after the page.
//! - `<!-- Ctrl-C: TEXT -->` before a block of `text`: the last command that continues is ended by
//!   SIGINT, and its output must contain the text.
//!
//! The ports that the pages use are replaced by free ones, and `/tmp/compute` by the scratch folder.

#![expect(
    clippy::disallowed_methods,
    reason = "these programs are not children of a supervisor, and no task waits here"
)]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ports on the pages: Postgres, the external and the internal server, first of `dev`, then of a
/// second compute; the pageserver and the safekeeper of `dev --storage-only`.
const PORTS: [u16; 8] = [55432, 3080, 3081, 55433, 3082, 3083, 64000, 5454];

/// How long a block may take. Failed starts stay for half a minute.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
enum How {
    Run,
    Prints(String),
    Fails(String),
    Stays(String),
    Ends(String),
    Not,
}

#[derive(Debug)]
struct Block {
    line: usize,
    how: How,
    text: String,
}

/// Pages with commands: those of the top and below `docs`. The contract is about other programs.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = ["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)).into();
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() && !entry.ends_with("docs/contract") {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "md") {
                pages.push(entry);
            }
        }
    }
    pages.sort();
    pages
}

/// The blocks of a page, or what is wrong with a comment before one.
fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut before = "";
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            before = line.trim();
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let body: Vec<_> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| line.trim() != "```")
            .map(|line| line.get(indent..).unwrap_or_default())
            .collect();
        if language == "sh" {
            let how = how(before).ok_or_else(|| format!("line {number}: {before}"))?;
            blocks.push(Block { line: number + 1, how, text: body.join("\n") });
        } else if let Some(text) = inside(before).and_then(|text| text.strip_prefix("Ctrl-C: ")) {
            let how = How::Ends(text.to_owned());
            blocks.push(Block { line: number + 1, how, text: "Ctrl-C".to_owned() });
        } else if ["bash", "shell", "console"].contains(&language) {
            return Err(format!("line {}: mark commands as sh", number + 1));
        }
        before = "";
    }
    Ok(blocks)
}

/// The text of a comment.
fn inside(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- ")?.strip_suffix(" -->")
}

fn how(before: &str) -> Option<How> {
    let Some(comment) = inside(before) else { return Some(How::Run) };
    let (kind, text) = comment.split_once(": ")?;
    let text = text.to_owned();
    match kind {
        "not run" => Some(How::Not),
        "prints" => Some(How::Prints(text)),
        "fails" => Some(How::Fails(text)),
        "stays" => Some(How::Stays(text)),
        _ => None,
    }
}

/// A command that continues in the background. Its end is waited for.
#[derive(Debug)]
struct Background {
    child: Child,
    output: PathBuf,
}

impl Background {
    /// Sends SIGINT; returns whether the command ended.
    fn interrupt(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT);
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) && !self.interrupt(Duration::from_secs(20))
        {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The folder and ports of one page's blocks.
#[derive(Debug)]
struct Bed {
    folder: tempfile::TempDir,
    ports: [u16; PORTS.len()],
    background: Vec<Background>,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("compute_ctl-docs-").tempdir().unwrap();
        // The server runs as another user if this is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // All ports are held before one is released, so that they differ.
        let held = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = held.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let bed = Self { folder, ports, background: Vec::new() };
        for name in ["bin", "home", "state"] {
            fs::create_dir(bed.folder.path().join(name)).unwrap();
        }
        fs::write(bed.folder.path().join("state/env"), "").unwrap();
        fs::write(
            bed.folder.path().join("state/cwd"),
            bed.folder.path().join("home").to_str().unwrap(),
        )
        .unwrap();
        bed.write_program();
        bed
    }

    /// `compute_ctl` with the ports in place of the defaults.
    fn write_program(&self) {
        let [postgres, external, internal, .., pageserver, safekeeper] = self.ports;
        // A copy, because the build folder may be closed to the user of the server.
        let real = self.folder.path().join("bin/real");
        fs::copy(env!("CARGO_BIN_EXE_compute_ctl"), &real).unwrap();
        let real = real.display();
        let script = format!(
            r#"#!/bin/bash
case "$*" in
    *--help* | *--version*) ;;
    "dev --storage-only"*) shift 2; set -- dev --storage-only --port {postgres} --pageserver-port {pageserver} --safekeeper-port {safekeeper} "$@" ;;
    *--external-http-port*) ;;
    -D*) set -- "$@" --external-http-port {external} --internal-http-port {internal} ;;
    dev*) shift; set -- dev --port {postgres} --external-http-port {external} --internal-http-port {internal} "$@" ;;
    *--url*) ;;
    status* | wait* | configure* | metrics* | terminate*)
        set -- "$@" --url http://127.0.0.1:{external} ;;
    refresh*) set -- "$@" --url http://127.0.0.1:{internal} ;;
esac
exec {real} "$@"
"#
        );
        let program = self.folder.path().join("bin/compute_ctl");
        fs::write(&program, script).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn with_ports(&self, text: &str) -> String {
        // In two steps: a free port may have the same digits as one on the page.
        let mark = |at: usize| format!("\u{1}{at}\u{1}");
        let mut text = text.to_owned();
        for (at, on_page) in PORTS.into_iter().enumerate() {
            text = text.replace(&on_page.to_string(), &mark(at));
        }
        for (at, free) in self.ports.into_iter().enumerate() {
            text = text.replace(&mark(at), &free.to_string());
        }
        text.replace("/tmp/compute", self.folder.path().join("work").to_str().unwrap())
    }

    fn script(&self, text: &str, stays: bool) -> String {
        let state = self.folder.path().join("state");
        let state = state.display();
        let text = self.with_ports(text);
        let rest = if stays {
            format!("exec {text}\n")
        } else {
            format!(
                "trap 'export -p > {state}/env; pwd > {state}/cwd' EXIT\nset -euo pipefail\n{text}\n"
            )
        };
        format!("source {state}/env\ncd \"$(cat {state}/cwd)\"\n{rest}")
    }

    fn command(&self, text: &str, stays: bool, output: &Path) -> Child {
        let path = std::env::var("PATH").unwrap_or_default();
        let out = fs::File::create(output).unwrap();
        let mut command = Command::new("bash");
        command.arg("-c").arg(self.script(text, stays)).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()));
        command.env("HOME", self.folder.path().join("home"));
        command.stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
        for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "POSTGRES_PATH", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.spawn().unwrap()
    }

    /// Runs a block. The error contains the output.
    fn run(&mut self, block: &Block) -> Result<(), String> {
        if let How::Ends(text) = &block.how {
            let Some(mut last) = self.background.pop() else {
                return Err("no command continues".to_owned());
            };
            let ended = last.interrupt(PATIENCE);
            let output = fs::read_to_string(&last.output).unwrap_or_default();
            if !ended || !output.contains(&self.with_ports(text)) {
                return Err(format!("ended: {ended}, its output lacks {text:?}\n---\n{output}"));
            }
            return Ok(());
        }
        let stays = matches!(block.how, How::Stays(_));
        let file = self.folder.path().join(format!("state/output-{}", block.line));
        let mut child = self.command(&block.text, stays, &file);
        let output = || fs::read_to_string(&file).unwrap_or_default();
        let wrong = |what: &str| Err(format!("{what}\n{}\n---\n{}", block.text, output()));
        let until = Instant::now() + PATIENCE;
        if let How::Stays(text) = &block.how {
            let text = self.with_ports(text);
            let mut background = Background { child, output: file.clone() };
            while !output().contains(&text) {
                if background.child.try_wait().unwrap().is_some() {
                    return wrong("it ended");
                }
                if Instant::now() > until {
                    return wrong("it does not print what it should");
                }
                sleep(Duration::from_millis(20));
            }
            self.background.push(background);
            return Ok(());
        }
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let group = Pid::from_raw(-child.id().cast_signed());
                let _ = kill(group, Signal::SIGTERM);
                let _ = child.wait();
                return wrong("it does not end");
            }
            sleep(Duration::from_millis(5));
        };
        let expected = match &block.how {
            How::Prints(text) | How::Fails(text) => Some(self.with_ports(text)),
            _ => None,
        };
        if status.success() == matches!(block.how, How::Fails(_)) {
            return wrong(&status.to_string());
        }
        if let Some(expected) = expected.filter(|text| !output().contains(text)) {
            return wrong(&format!("its output lacks {expected:?}"));
        }
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // In reverse: a later command may need the storage of an earlier one.
        while let Some(last) = self.background.pop() {
            drop(last);
        }
    }
}

#[test]
fn commands_on_the_pages() {
    let (mut run, mut left_out) = (0, 0);
    let mut failures = Vec::new();
    for page in pages() {
        let name = page.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        let blocks = match blocks(&fs::read_to_string(&page).unwrap()) {
            Ok(blocks) => blocks,
            Err(error) => {
                failures.push(format!("{name}, {error}"));
                continue;
            }
        };
        let mut bed = None;
        for block in blocks {
            if matches!(block.how, How::Not) {
                left_out += 1;
                continue;
            }
            run += 1;
            if let Err(error) = bed.get_or_insert_with(Bed::new).run(&block) {
                failures.push(format!("{name}, line {}: {error}", block.line));
                // Later blocks of the page depend on this one.
                break;
            }
        }
    }
    writeln!(std::io::stderr(), "{run} blocks were run, {left_out} say why not").unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn blocks_and_their_comments() {
    let page = "<!-- Ctrl-C: x -->\n```text\nx\n```\n<!-- prints: a: b -->\n```sh\necho 'a: b'\n```\n\n1. x\n   ```sh\n   cd x\n\n     y\n   ```\n                ```text\n```sh\n```\n<!-- not run: later -->\n```sh\nz\n```\n";
    let blocks = blocks(page).unwrap();
    assert!(matches!(&blocks[0].how, How::Ends(text) if text == "x"), "{blocks:?}");
    let blocks = &blocks[1..];
    assert_eq!(blocks.len(), 3, "{blocks:?}");
    assert!(matches!(&blocks[0].how, How::Prints(text) if text == "a: b"));
    assert_eq!((blocks[1].line, blocks[1].text.as_str()), (11, "cd x\n\n  y"));
    assert!(matches!(blocks[1].how, How::Run) && matches!(blocks[2].how, How::Not));
    for wrong in ["<!-- runs: never -->\n```sh\n```", "<!-- why -->\n```sh\n```", "```bash\n```"] {
        assert!(super::commands::blocks(wrong).is_err(), "{wrong}");
    }
}
