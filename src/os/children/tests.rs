use super::*;
use crate::env::{CONTROL_PLANE_TOKEN, PGBOUNCER_PASSWORD};

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

#[tokio::test]
async fn a_sweep_does_not_steal_a_status() {
    let children = Children::new();
    let mut child = children.spawn(sh("exit 7")).unwrap();
    // Wait for the zombie without taking it.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(child.pid())), flags).unwrap();
    children.reap_orphans();
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
    assert_eq!(child.wait().await.unwrap().code(), Some(7), "remembered");
    assert!(!children.is_registered(child.pid()));
    child.signal(Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn an_abandoned_child_is_reaped_by_the_sweep() {
    let children = Children::new();
    let mut child = children.spawn(sh("sleep 1000")).unwrap();
    child.kill_on_drop(true);
    let pid = child.pid();
    drop(child);
    // The sweep of another test may be first, so there is nothing to count.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let _ = waitid(Id::Pid(Pid::from_raw(pid)), flags);
    children.reap_orphans();
    assert!(!children.is_registered(pid));
    assert!(procs::get(pid).is_none_or(|p| p.ppid != Pid::this().as_raw()));
}

#[tokio::test]
async fn an_orphan_behind_a_waited_child_is_reaped() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let children = Children::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("sleep 1000 & echo $! > {}", file.path().display());
    let mut child = children.spawn(sh(&script)).unwrap();
    // Both are zombies, in this order, when the sweep looks.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(child.pid())), flags).unwrap();
    let orphan: i32 = std::fs::read_to_string(file.path()).unwrap().trim().parse().unwrap();
    signal::kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
    // Fails if another test's sweep has reaped it.
    let _ = waitid(Id::Pid(Pid::from_raw(orphan)), flags);
    children.reap_orphans();
    assert!(child.wait().await.unwrap().success());
    // The zombie of another test can come first; that test sweeps, too.
    let gone = async {
        while procs::get(orphan).is_some_and(|p| p.ppid == Pid::this().as_raw()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();
}

#[tokio::test]
async fn run_captures_bounded_output() {
    let children = Children::new();
    let script = "head -c 100000 /dev/zero; echo oops >&2; exit 3";
    let output = children.run(sh(script), LONG, 10).await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((output.stdout.len(), output.stderr.as_slice()), (10, b"oops\n".as_slice()));
}

#[tokio::test]
async fn run_kills_the_whole_group_at_the_deadline() {
    let children = Children::new();
    // The grandchild keeps the pipe open; only killing the group ends it.
    let file = tempfile::NamedTempFile::new().unwrap();
    let command = sh(&format!("sleep 1000 & echo $! > {}; wait", file.path().display()));
    let error = children.run(command, Duration::from_millis(500), 10).await.unwrap_err();
    assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
    let pid: i32 = std::fs::read_to_string(file.path()).unwrap().trim().parse().unwrap();
    // Killed with its parent: gone, or a zombie until its new parent reaps it.
    while procs::get(pid).is_some_and(|p| !p.zombie) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let error = Children::new().run(Command::new("/no/such"), LONG, 1).await.unwrap_err();
    assert!(error.to_string().contains("/no/such"), "{error}");
}

/// Runs in a process of its own, whose environment has the withheld variables.
#[tokio::test]
async fn a_child_inherits_our_environment_without_withheld() {
    const MARK: &str = "IS_THE_CHILD_OF_THIS_TEST";
    let name = "os::children::tests::a_child_inherits_our_environment_without_withheld";
    if std::env::var_os(MARK).is_none() {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name, "--nocapture"]).env(MARK, "planted");
        again.envs(withheld().map(|name| (name, "planted")));
        let output = Children::new().run(again, LONG, 1 << 20).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    assert!(withheld().all(|name| std::env::var_os(name).is_some()));
    assert_eq!(withheld().count(), 16);
    let text = environment(Command::new("env")).await;
    assert!(text.contains("IS_THE_CHILD_OF_THIS_TEST=planted"), "{text}");
    for name in withheld() {
        assert!(!text.contains(name), "{name} in {text}");
    }
    // A command that sets one of them gets that one only.
    let mut asks = Command::new("env");
    asks.env(CONTROL_PLANE_TOKEN, "its own");
    let text = environment(asks).await;
    assert!(text.contains("NEON_CONTROL_PLANE_TOKEN=its own"), "{text}");
    assert!(!text.contains(PGBOUNCER_PASSWORD), "{text}");
}

async fn environment(command: Command) -> String {
    let output = Children::new().run(command, LONG, 1 << 20).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}
