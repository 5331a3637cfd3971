//! pgbouncer and local_proxy get a signal at the end (01 §18.1, §18.3); at the end by a signal not in
//! a development set-up (01 §24 no. 31). Their pid files have fixed places, so the compute runs in its own mount
//! namespace, which only root can make.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use compute_ctl::os::procs;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tokio::process::{Child, Command};

use crate::support::assertions::{PATIENCE, assert_nothing_left, until};
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// `$0` is the bed, `$1` the program to run. Gives `/tmp` and `/etc` other contents, with the pid
/// files in them. The program is copied into the bed: where it was built may be below `/tmp`.
const NAMESPACE: &str = r#"set -e
cp "$1" "$0/compute_ctl"
shift
mkdir "$0/tmp" "$0/etc"
mount -t tmpfs tmpfs "$0/etc"
cp -a /etc/. "$0/etc"
mkdir -p "$0/etc/local_proxy"
touch "$0/etc/local_proxy/pid"
mount --bind "$0/local_proxy.pid" "$0/etc/local_proxy/pid"
mount --move "$0/etc" /etc
mount -t tmpfs tmpfs "$0/tmp"
chmod 1777 "$0/tmp"
cp "$0/pgbouncer.pid" "$0/tmp"
case $0 in
    /tmp/*) mkdir "$0/tmp/${0##*/}" && mount --bind "$0" "$0/tmp/${0##*/}" ;;
esac
mount --move "$0/tmp" /tmp
exec "$0/compute_ctl" "$@""#;

/// A program of this name that sleeps, with the user of the daemon; `role` names its pid file.
async fn neighbour(bed: &Bed, role: &str, name: &str) -> Child {
    let program = bed.dir().join(name);
    let copied = Command::new("cp").arg("/bin/sleep").arg(&program).status().await.unwrap();
    assert!(copied.success());
    let user = User::from_name("postgres").unwrap().unwrap();
    let mut command = Command::new(&program);
    command.arg("86400").uid(user.uid.as_raw()).gid(user.gid.as_raw()).kill_on_drop(true);
    #[expect(clippy::disallowed_methods, reason = "the test reaps it itself")]
    let child = command.current_dir("/").stdin(Stdio::null()).spawn().unwrap();
    let pid = child.id().unwrap().cast_signed();
    until("it runs under its name", || async { procs::name(pid).as_deref() == Some(name) }).await;
    fs::write(bed.dir().join(format!("{role}.pid")), pid.to_string()).unwrap();
    child
}

/// What ends the compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Signal,
    Terminate,
}

/// Runs a compute and ends it. Returns how the neighbours ended, if they did.
async fn end_beside(bed: &Bed, dev: bool, by: By) -> [Option<ExitStatus>; 2] {
    let mut pgbouncer = neighbour(bed, "pgbouncer", "pgbouncer").await;
    // The lock of its pid file says who it is.
    let mut local_proxy = neighbour(bed, "local_proxy", "lp-2.1").await;
    let pid_file = fs::File::open(bed.dir().join("local_proxy.pid")).unwrap();
    let _held = Flock::lock(pid_file, FlockArg::LockExclusive).unwrap();

    let mut args = bed.base_args();
    args.retain(|flag| dev || flag != "--dev");
    args.extend(bed.config_args());
    let mut namespace = Command::new("unshare");
    namespace.args(["--mount", "--propagation", "private", "/bin/sh", "-c", NAMESPACE]);
    namespace.arg(bed.dir());
    let mut compute = Compute::spawn_through(bed, namespace, &args);
    compute.wait_for_log("compute status from init to running").await;
    let code = match by {
        By::Signal => compute.stop(Signal::SIGTERM).await,
        By::Terminate => {
            let (code, body) = compute.post("/terminate?mode=immediate", None).await;
            assert_eq!(code.as_u16(), 200, "{body}");
            1 - compute.wait_exit().await.code().unwrap()
        }
    };
    assert_eq!(code, 1, "{}", compute.log());
    if !dev || by == By::Terminate {
        // The signals were sent; a hang here means that one was missing.
        let both = async { (pgbouncer.wait().await, local_proxy.wait().await) };
        tokio::time::timeout(PATIENCE, both).await.expect("a neighbour was not told").0.unwrap();
    }
    let ended = [pgbouncer.try_wait().unwrap(), local_proxy.try_wait().unwrap()];
    for neighbour in [&mut pgbouncer, &mut local_proxy] {
        let _ = neighbour.kill().await;
    }
    ended
}

#[tokio::test]
async fn neighbours_go_unless_it_is_for_development() {
    if !geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    on_one_server(|server| async move {
        // Without `--dev` a `/terminate` needs a token; it does the same then.
        for (dev, by) in [(false, By::Signal), (true, By::Signal), (true, By::Terminate)] {
            let bed = Bed::new(server.clone()).await;
            let tmp = Path::new("/tmp");
            if bed.dir().starts_with(tmp) && bed.dir().parent() != Some(tmp) {
                println!("skipped: the beds are deep in /tmp");
                return;
            }
            let ended = end_beside(&bed, dev, by).await;
            let signals = ended.map(|status| status.and_then(|status| status.signal()));
            let told = [Some(Signal::SIGKILL as i32), Some(Signal::SIGTERM as i32)];
            assert_eq!(signals, if (dev, by) == (true, By::Signal) { [None, None] } else { told });
            assert_nothing_left(&bed);
        }
    })
    .await;
}
