//! Started as root: the user of all processes and files. Started as another user: nothing changes,
//! and no other user can be given.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid, getgrouplist};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, put, run_as_name};
use crate::support::process::{Compute, Marked, try_start};
use crate::support::server::on_one_server;

fn line(bed: &Bed, more: &[&str]) -> Vec<String> {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    line.extend(more.iter().map(ToString::to_string));
    line
}

/// Owners of everything below the path, of links themselves and not of their targets.
fn assert_all_belong_to(path: &Path, user: &User) {
    let meta = fs::symlink_metadata(path).unwrap();
    let owner = (meta.uid(), meta.gid());
    assert_eq!(owner, (user.uid.as_raw(), user.gid.as_raw()), "{}", path.display());
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            assert_all_belong_to(&entry.unwrap().path(), user);
        }
    }
}

/// The numbers behind a key of `/proc/<pid>/status`.
fn proc_status(pid: i32, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap().split_whitespace().map(str::to_owned).collect()
}

/// All groups of a user, its own among them.
fn groups_of(user: &User) -> Vec<String> {
    let name = CString::new(user.name.as_str()).unwrap();
    let groups = getgrouplist(&name, user.gid).unwrap();
    let mut groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
    groups.sort();
    groups
}

fn assert_runs_as(pid: i32, user: &User) {
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    assert_eq!(proc_status(pid, "Uid"), vec![uid; 4]);
    assert_eq!(proc_status(pid, "Gid"), vec![gid; 4]);
    if geteuid().is_root() {
        assert_eq!(proc_status(pid, "CapEff"), ["0000000000000000"]);
        assert_eq!(proc_status(pid, "CapPrm"), ["0000000000000000"]);
        let mut groups = proc_status(pid, "Groups");
        groups.sort();
        assert_eq!(groups, groups_of(user));
    }
}

async fn assert_compute_of(bed: &Bed, args: &[&str], env: &[(&str, &str)], user: &User) {
    let mut compute = Compute::spawn(bed, &line(bed, args), env);
    compute.wait_for("running").await;
    assert_runs_as(compute.pid(), user);
    assert_runs_as(compute.postmaster(), user);
    assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
    assert_all_belong_to(&bed.pgdata(), user);
    assert_nothing_left(bed);
}

#[tokio::test]
async fn everything_belongs_to_the_run_as_user() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let user = User::from_name(&run_as_name()).unwrap().unwrap();
        assert_compute_of(&bed, &[], &[], &user).await;
        // An empty directory of root is given to the user; naming the user changes nothing.
        fs::remove_dir_all(bed.pgdata()).unwrap();
        fs::create_dir(bed.pgdata()).unwrap();
        assert_compute_of(&bed, &["--run-as", &user.name], &[], &user).await;
    })
    .await;
}

#[tokio::test]
async fn another_user_by_flag_or_environment() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let name = "nobody";
        let Some(user) = User::from_name(name).unwrap().filter(|_| geteuid().is_root()) else {
            // Not the user that runs the tests, which may well be `nobody`.
            let name = "daemon";
            let error = format!("--run-as {name} needs root");
            for (args, env) in
                [(vec!["--run-as", name], vec![]), (vec![], vec![("COMPUTE_CTL_RUN_AS", name)])]
            {
                let refusal = try_start(&bed, &line(&bed, &args), &env).await;
                assert!(refusal.error().contains(&error), "{}", refusal.stderr);
            }
            marked.assert_untouched();
            return assert_nothing_left(&bed);
        };
        for folder in ["home", "sockets"] {
            put(&bed.dir().join(folder).join("x"), "");
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(bed.dir().join(folder), Some(uid), Some(gid)).unwrap();
        }
        bed.place_pgdata("home/pgdata");
        let sockets = bed.dir().join("sockets").display().to_string();
        bed.spec.set("unix_socket_directories", &sockets);
        assert_compute_of(&bed, &["--run-as", name], &[], &user).await;
        assert_compute_of(&bed, &[], &[("COMPUTE_CTL_RUN_AS", name)], &user).await;
        // The flag wins.
        let env = [("COMPUTE_CTL_RUN_AS", "no-such-user-here")];
        assert_compute_of(&bed, &["--run-as", name], &env, &user).await;
        marked.assert_untouched();
    })
    .await;
}

/// A number needs no entry in the user database, and may come with a group.
#[tokio::test]
async fn a_number_without_a_name() {
    if !geteuid().is_root() {
        return;
    }
    const UID: u32 = 4_711_123;
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for folder in ["home", "sockets"] {
            put(&bed.dir().join(folder).join("x"), "");
            chown(bed.dir().join(folder), Some(UID), Some(UID)).unwrap();
        }
        bed.place_pgdata("home/pgdata");
        let sockets = bed.dir().join("sockets").display().to_string();
        bed.spec.set("unix_socket_directories", &sockets);
        for (wanted, gid) in [(UID.to_string(), UID), (format!("{UID}:17"), 17)] {
            let mut compute = Compute::spawn(&bed, &line(&bed, &["--run-as", &wanted]), &[]);
            compute.wait_for("running").await;
            for pid in [compute.pid(), compute.postmaster()] {
                assert_eq!(proc_status(pid, "Uid"), vec![UID.to_string(); 4]);
                assert_eq!(proc_status(pid, "Gid"), vec![gid.to_string(); 4]);
                assert_eq!(proc_status(pid, "Groups"), [gid.to_string()]);
            }
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// Root makes a missing PGDATA before it steps down, so it checks the configuration before that.
#[tokio::test]
async fn a_bad_configuration_leaves_no_empty_directory() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let bad_document = bed.write_text("bad.json", "{\"spec\": 7}").display().to_string();
        bed.spec.set("a b", "1");
        let bad_setting = bed.write("setting.json", &bed.spec.config()).display().to_string();
        for (path, text) in [(bad_document, "could not parse"), (bad_setting, "\"a b\"")] {
            let mut line = bed.base_args();
            line.extend(["--compute-id", "c1", "--config", &path].map(str::to_owned));
            let refusal = try_start(&bed, &line, &[]).await;
            assert!(refusal.error().contains(text), "{}", refusal.stderr);
            assert!(!bed.pgdata().exists());
        }
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn users_that_will_not_do() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let root = if geteuid().is_root() { "refuses to run as root" } else { "needs root" };
        for (name, text) in [("no-such-user-here", "there is no user"), ("root", root)] {
            for (args, env) in
                [(vec!["--run-as", name], vec![]), (vec![], vec![("COMPUTE_CTL_RUN_AS", name)])]
            {
                let refusal = try_start(&bed, &line(&bed, &args), &env).await;
                let error = refusal.error();
                for part in [text, name, "--run-as"] {
                    assert!(error.contains(part), "no {part:?} in {error}");
                }
                assert_eq!(error.contains("COMPUTE_CTL_RUN_AS"), args.is_empty(), "{error}");
            }
        }
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}

/// A file and a pipe that only root can read: each is read once, before root steps down. A later
/// refresh reports that it cannot read it any more.
#[tokio::test]
async fn a_configuration_that_only_root_can_read() {
    if !geteuid().is_root() {
        return;
    }
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let config = bed.write("config.json", &bed.spec.config());
        chown(&config, Some(0), Some(0)).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        let mut compute = Compute::spawn(&bed, &line_of(&bed, &config), &[]);
        compute.wait_for("running").await;
        compute.refresh().await;
        let text = format!("could not read {} as user {}: ", config.display(), run_as_name());
        compute.wait_for_log(&text).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);

        let pipe = bed.dir().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let text = fs::read(&config).unwrap();
        let writer = tokio::task::spawn_blocking({
            let pipe = pipe.clone();
            move || fs::write(pipe, text)
        });
        let mut compute = Compute::spawn(&bed, &line_of(&bed, &pipe), &[]);
        compute.wait_for("running").await;
        writer.await.unwrap().unwrap();
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

fn line_of(bed: &Bed, config: &Path) -> Vec<String> {
    let mut line = bed.base_args();
    let config = config.display().to_string();
    line.extend(["--compute-id", "c1", "--config", &config].map(str::to_owned));
    line
}

/// The user owns PGDATA's parent and puts a link to an empty directory of root in PGDATA's place.
#[tokio::test]
async fn a_link_of_the_users_gives_nothing_of_roots_away() {
    if !geteuid().is_root() {
        return;
    }
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let user = User::from_name(&run_as_name()).unwrap().unwrap();
        let roots = tempfile::tempdir().unwrap();
        fs::set_permissions(roots.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let owner = || fs::metadata(roots.path()).unwrap().uid();
        std::os::unix::fs::symlink(roots.path(), bed.pgdata()).unwrap();
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        std::os::unix::fs::lchown(bed.pgdata(), Some(uid), Some(gid)).unwrap();
        let refusal = try_start(&bed, &line(&bed, &[]), &[]).await;
        assert!(refusal.error().contains("Permission denied"), "{}", refusal.stderr);
        assert_eq!(owner(), 0);
        assert!(fs::read_dir(roots.path()).unwrap().next().is_none());

        // A link made by an operator is a volume.
        std::os::unix::fs::lchown(bed.pgdata(), Some(0), Some(0)).unwrap();
        let mut compute = Compute::spawn(&bed, &line(&bed, &[]), &[]);
        compute.wait_for("running").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(owner(), uid);
        assert!(bed.pgdata().is_symlink());
        assert_nothing_left(&bed);
    })
    .await;
}
