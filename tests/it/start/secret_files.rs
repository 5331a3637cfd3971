//! Secrets in files that only the user who starts the process may read: `*_FILE` variables and
//! `--connstr-file`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, Marked, try_start};
use crate::support::server::on_one_server;

const TOKEN_FILE: &str = "NEON_CONTROL_PLANE_TOKEN_FILE";
const PASSWORD_FILE: &str = "PGBOUNCER_PASSWORD_FILE";

/// A file that the user of the compute may not read if root started it.
fn private(bed: &Bed, name: &str, text: &str) -> String {
    let path = bed.dir().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A command line with the connection in a file.
fn line_with(bed: &Bed, connstr: &str) -> Vec<String> {
    let mut line = [bed.base_args(), bed.config_args()].concat();
    let at = line.iter().position(|it| it == "--connstr").unwrap();
    let file = ["--connstr-file".to_owned(), private(bed, "connstr", connstr)];
    line.splice(at..at + 2, file);
    line
}

#[tokio::test]
async fn secrets_of_files_are_used_and_given_to_few() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let connstr = bed.connstr().replace("cloud_admin@", "cloud_admin:planted-word@");
        let line = line_with(&bed, &format!("\n{connstr}\n"));
        let token = private(&bed, "token", "planted-token\n");
        let password = private(&bed, "password", "planted-password\n");
        let env = [(TOKEN_FILE, token.as_str()), (PASSWORD_FILE, &password), ("OTHER", "stays")];
        let mut compute = Compute::spawn(&bed, &line, &env);
        compute.wait_for("running").await;
        let of = |pid: i32, what: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/{what}"));
            String::from_utf8(fs::read(path).unwrap()).unwrap().replace('\0', "\n")
        };
        let environment = of(compute.postmaster(), "environ");
        assert!(environment.contains("NEON_CONTROL_PLANE_TOKEN=planted-token\n"), "{environment}");
        assert!(environment.contains("OTHER=stays\n"), "{environment}");
        for absent in [TOKEN_FILE, PASSWORD_FILE, "planted-password", "planted-word"] {
            assert!(!environment.contains(absent), "{absent} in {environment}");
        }
        assert!(!of(compute.pid(), "cmdline").contains("planted"));
        assert!(!of(compute.pid(), "environ").contains("planted"));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert!(!compute.log().contains("planted"), "{}", compute.log());
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_file_without_a_secret_ends_the_start() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let line = [bed.base_args(), bed.config_args()].concat();
        let empty = private(&bed, "empty", "\n");
        let missing = bed.dir().join("missing").display().to_string();
        let torn = private(&bed, "torn", "planted\nplanted");
        for (env, wanted) in [
            (vec![(TOKEN_FILE, &*empty)], format!("{TOKEN_FILE}: the file {empty} is empty")),
            (
                vec![(PASSWORD_FILE, &*missing)],
                format!("{PASSWORD_FILE}: the file {missing} could not be read: No such file"),
            ),
            (
                vec![(PASSWORD_FILE, &*torn)],
                format!("the file {torn} ({PASSWORD_FILE}) has a line break inside"),
            ),
            (
                vec![(TOKEN_FILE, &*torn), ("NEON_CONTROL_PLANE_TOKEN", "planted")],
                format!("NEON_CONTROL_PLANE_TOKEN and {TOKEN_FILE} are both set"),
            ),
        ] {
            let refusal = try_start(&bed, &line, &env).await;
            assert!(refusal.error().contains(&wanted), "{}", refusal.stderr);
            assert!(!refusal.stderr.contains("planted"), "{}", refusal.stderr);
        }
        for (text, wanted) in [
            ("", "--connstr-file: the file"),
            ("user=planted host=h", "(--connstr-file) holds no connection: --connstr is not a URL"),
        ] {
            let refusal = try_start(&bed, &line_with(&bed, text), &[]).await;
            assert!(refusal.error().contains(wanted), "{}", refusal.stderr);
            assert!(refusal.error().contains(&bed.dir().display().to_string()));
            assert!(!refusal.stderr.contains("planted"), "{}", refusal.stderr);
        }
        for (content, wanted) in [("", "is empty"), ("planted\0", "is not text")] {
            let file = private(&bed, "filecache", content);
            let more = vec!["--filecache-connstr-file".to_owned(), file.clone()];
            let refusal = try_start(&bed, &[line.clone(), more].concat(), &[]).await;
            let wanted = format!("--filecache-connstr-file: the file {file} {wanted}");
            assert!(refusal.error().contains(&wanted), "{}", refusal.stderr);
            assert!(!refusal.stderr.contains("planted"), "{}", refusal.stderr);
        }
        let both = [line, vec!["--connstr-file".to_owned(), empty]].concat();
        let refusal = try_start(&bed, &both, &[]).await;
        assert_eq!(refusal.code, Some(2), "{}", refusal.stderr);
        marked.assert_untouched();
        assert_nothing_left(&bed);
    })
    .await;
}
