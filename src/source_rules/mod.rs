//! Rules for all of the source, checked by reading it: operations that only one place may do, and
//! files that may import from each other ([`rooms`]).

mod client;
mod durations;
mod errors;
mod imports;
mod paths;
mod rooms;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// Text of a source file outside its tests, and the path of the file below `src`.
struct Source {
    name: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !is_test(&name) {
                let text = fs::read_to_string(&path).unwrap();
                // The tests of a file are at its end.
                let tests = ["mod tests {", "pub(super) mod tests {"];
                let tests =
                    tests.iter().filter_map(|it| text.find(&format!("\n#[cfg(test)]\n{it}")));
                let text = text.split_at(tests.min().unwrap_or(text.len())).0.to_owned();
                found.push(Source { name, text });
            }
        }
    }
    assert!(found.len() > 100, "{} files", found.len());
    found
}

fn is_test(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap();
    name.contains("/tests/")
        || file.ends_with("tests.rs")
        || file == "testing.rs"
        || file == "fuzzing.rs"
        || name.contains("fuzzing/")
        || name.starts_with("source_rules/")
        || name.starts_with("sql_tests/")
}

/// Checks that the files for which `counts` is true use the texts in all allowed files and in no
/// other. An allowed file without a use means that the rule looks for the wrong text.
fn only_in(allowed: &[&str], texts: &[&str], counts: fn(&str) -> bool) {
    let sources = sources();
    let users = sources.iter().filter(|it| counts(&it.text));
    let users = users.filter(|it| {
        it.text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            texts.iter().any(|text| code.contains(text))
        })
    });
    let mut users: Vec<_> = users.map(|it| it.name.as_str()).collect();
    users.sort_unstable();
    assert_eq!(users, allowed, "{texts:?} belongs there only");
}

/// See [`crate::http_client`].
#[test]
fn http_clients_are_made_in_one_place() {
    let makers =
        ["Client::builder(", "Client::new(", "ClientBuilder", "reqwest::get(", "Client::default("];
    only_in(&["http_client.rs"], &makers, |text| text.contains("reqwest"));
}

/// A peer that stalls must not hold its caller for longer than a try may take: the limit of a try is
/// set where the client is made or where the request is sent. How many tries there are, and for how
/// long, is in the limits of the room.
#[test]
fn every_http_client_has_a_limit_per_try() {
    let limits = [".timeout(", "timeout_at("];
    for source in sources().iter().filter(|it| it.text.contains("http_client::builder(")) {
        assert!(limits.iter().any(|limit| source.text.contains(limit)), "{}", source.name);
    }
}

/// See [`crate::duration::varied`].
#[test]
fn pauses_before_another_try_vary_in_one_way() {
    only_in(&["duration.rs"], &["fastrand::f64"], |_| true);
}

/// See [`crate::os::children`]. `dev::servers` looks for servers before there is a runtime.
#[test]
fn processes_are_started_in_one_place() {
    let starters = [".spawn()", ".output()", ".status()"];
    only_in(&["dev/servers.rs", "os/children.rs"], &starters, |text| {
        text.contains("process::Command") || text.contains("process::{Command")
    });
    let without_command = ["fork(", "posix_spawn", "execv", ".exec()"];
    only_in(&[], &without_command, |_| true);
}

/// See [`crate::failpoints::edges`]: a step that is only noted could be neither held nor made to fail.
/// A promotion and a reconfiguration note their steps in one function each, and a certificate, whose
/// step is noted only if the status allows it, where it is renewed.
#[test]
fn every_step_has_its_failpoints() {
    only_in(&["node/progress.rs"], &[".phase(name"], |_| true);
    only_in(&[], &["node.phase("], |_| true);
    let with = ["driver/promote.rs", "driver/reconfigure.rs", "driver/running.rs"];
    only_in(&with, &["node.step("], |_| true);
    for source in sources().iter().filter(|it| with.contains(&it.name.as_str())) {
        assert_eq!(source.text.matches("node.step(").count(), 1, "{}", source.name);
        assert!(source.text.contains("edges::around("), "{}", source.name);
    }
}

/// See [`crate::env`]. A client program gets no variable whose name begins like those of libpq.
#[test]
fn the_environment_is_read_in_one_place() {
    only_in(&["env.rs", "postgres/client.rs"], &["env::var", "env::vars"], |_| true);
}

/// Files with a task or thread that is neither awaited nor held where it is started, and the
/// reason why its end is not lost.
const ENDS_BY_ITSELF: [(&str, &str); 5] = [
    ("os/opened.rs", "closes a file, which takes the kernel some ms; nothing depends on it"),
    ("postgres/log.rs", "ends with the pipe of Postgres; `drained` waits for that with a limit"),
    ("services/extensions/download.rs", "holds `Background`, whose end waits for it with a limit"),
    ("spec/source.rs", "awaited with a limit; nothing ends a thread that reads a silent file"),
    ("sql/dump.rs", "ends its child first, with deadlines; the end of the process ends the child"),
];

/// Whether the task started at `at` is awaited, or given to a handle that aborts it, in the same
/// statement. Reads the text only: a parenthesis in a literal can mislead it.
fn is_waited_for_or_held(text: &str, at: usize) -> bool {
    let (before, call) = text.split_at(at);
    let statement = before.rsplit([';', '{', '}']).next().unwrap_or_default();
    let mut depth = 0;
    let end = call.find(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ')' && depth == 0
    });
    let after = call.split_at(end.unwrap() + 1).1.trim_start();
    statement.contains("AbortOnDropHandle::new(") || after.starts_with(".await")
}

/// A task that is not awaited outlives the work it belongs to, and its panic is not seen. The
/// tasks that `compute_ctl dev` starts beside the compute end with the process.
#[test]
fn no_task_is_left_alone() {
    let sources = sources();
    let products = sources.iter().filter(|it| !it.name.starts_with("dev/"));
    let alone = products.filter(|it| {
        ["tokio::spawn(", "task::spawn(", "spawn_blocking("].iter().any(|starter| {
            let mut starts = it.text.match_indices(starter);
            starts.any(|(at, _)| !is_waited_for_or_held(&it.text, at))
        })
    });
    let mut alone: Vec<_> = alone.map(|it| it.name.as_str()).collect();
    alone.sort_unstable();
    assert_eq!(alone, ENDS_BY_ITSELF.map(|(file, _)| file), "hold the handle, or say why not");
}

#[test]
fn what_counts_as_held() {
    for (text, held) in [
        ("let a = AbortOnDropHandle::new(tokio::spawn(f(1)));", true),
        ("if tokio::spawn(async move { f(); }).await.is_err()", true),
        ("tokio::spawn(f());", false),
        ("let task = tokio::spawn(f()); task.await", false),
        ("let a = AbortOnDropHandle::new(b); tokio::spawn(f());", false),
    ] {
        let at = text.find("tokio::spawn(").unwrap();
        assert_eq!(is_waited_for_or_held(text, at), held, "{text}");
    }
}

/// No child gets the password; one place says which child gets the token.
#[test]
fn what_is_withheld_from_children_is_given_to_few() {
    let names = ["PGBOUNCER_PASSWORD", "\"NEON_CONTROL_PLANE_TOKEN\""];
    only_in(&["env.rs"], &names, |_| true);
    only_in(&["env.rs", "startup/mod.rs"], &["CONTROL_PLANE_TOKEN"], |_| true);
    // One withholds them, the other reads their files.
    only_in(&["env.rs", "os/children.rs", "os/secret_files.rs"], &["SECRETS"], |_| true);
}
