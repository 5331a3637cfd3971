//! What an operator reads after a mistake: the file, the value, the user or the address, and what to
//! do, without the words of a library.

use std::fs;
use std::os::unix::fs::chown;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, run_as_name};
use crate::support::network::ClosedPort;
use crate::support::process::{Compute, try_start};
use crate::support::server::on_one_server;

/// Words of libraries and of the system that tell an operator nothing.
const FOREIGN: [&str; 6] = [
    "os error 13",
    "unexpected EOF",
    "relative URL without a base",
    "client error (Connect)",
    "error sending request",
    "Caused by:",
];

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    for word in FOREIGN {
        assert!(!text.contains(word), "{word:?} is in\n{text}");
    }
}

#[tokio::test]
async fn a_pageserver_url_of_the_wrong_kind() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for (url, why) in [
            ("http://planted@127.0.0.1:1", "it is a URL of another kind"),
            ("127.0.0.1:1", "it is neither a URL nor a list of options"),
        ] {
            bed.spec.pageserver_connstring = url.to_owned();
            let mut line = bed.base_args();
            line.extend(bed.config_args());
            let refusal = try_start(&bed, &line, &[]).await;
            assert_says(refusal.error(), &["the libpq connection string", why, "postgresql://"]);
            assert!(!refusal.stderr.contains("planted"), "{}", refusal.stderr);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_data_directory_of_another_user() {
    if !geteuid().is_root() {
        return;
    }
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        fs::create_dir_all(bed.pgdata()).unwrap();
        fs::write(bed.pgdata().join("file"), "").unwrap();
        fs::set_permissions(bed.pgdata(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        chown(bed.pgdata(), Some(0), Some(0)).unwrap();
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        let refusal = try_start(&bed, &line, &[]).await;
        let pgdata = bed.pgdata().display().to_string();
        let owner = format!("{pgdata} belongs to user `root` and has mode 0700");
        let user = format!("to user `{}`", run_as_name());
        assert_says(refusal.error(), &[&pgdata, &user, &owner, "chown", "--run-as"]);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_control_plane_behind_a_proxy_that_does_not_answer() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let proxy = ClosedPort::reserve();
        let variable = format!("http://user:planted@{}", proxy.address());
        let line = bed.args_for("http://control-plane.example:8080/prefix");
        let env = [("HTTP_PROXY", variable.as_str()), ("NO_PROXY", "")];
        let mut compute = Compute::spawn(&bed, &line, &env);
        let words = format!(
            "could not connect to control-plane.example:8080 through the proxy http://{}, which the \
             environment names: Connection refused",
            proxy.address()
        );
        compute.wait_for_log(&words).await;
        compute.stop(Signal::SIGTERM).await;
        assert_says(&compute.log(), &["could not retrieve the config from the control plane"]);
        assert!(!compute.log().contains("planted"), "{}", compute.log());
        assert_nothing_left(&bed);
    })
    .await;
}
