//! Flags as variables of the environment: which one wins, and what is said about a bad one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, Ran, check_with_env, client_with_env, program};
use crate::support::server::on_one_server;

/// `compute_ctl check`, which needs one document.
async fn check(args: &[&str], env: &[(&str, &str)]) -> Ran {
    client_with_env(&[&["check"], args].concat(), env).await
}

fn document(folder: &tempfile::TempDir, name: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, r#"{"compute_ctl_config": {"jwks": {"keys": []}}}"#).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_compute_is_started_by_variables_alone() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let line = [bed.base_args(), bed.config_args()].concat();
        let mut env: Vec<(String, String)> = vec![
            ("COMPUTE_CTL_DEV".to_owned(), "1".to_owned()),
            ("COMPUTE_CTL_FORCE_WIPE".to_owned(), "false".to_owned()),
            ("COMPUTE_CTL_SIGNAL_EXIT_CODE".to_owned(), "7".to_owned()),
            ("COMPUTE_CTL_REMOTE_EXT_BASE_URL".to_owned(), String::new()),
        ];
        let mut words = line.iter().filter(|word| *word != "--dev");
        while let (Some(flag), Some(value)) = (words.next(), words.next()) {
            let name = match flag.as_str() {
                "--pgbin" => "POSTGRES_PATH".to_owned(),
                flag => flag.replacen("--", "COMPUTE_CTL_", 1).replace('-', "_").to_uppercase(),
            };
            env.push((name, value.clone()));
        }
        let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut compute = Compute::spawn(&bed, &[], &env);
        bed.wait_running(&mut compute).await;

        // A connection string may have a password.
        let inherited = std::fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        let inherited = String::from_utf8_lossy(&inherited);
        assert!(inherited.contains("PATH=") && !inherited.contains("COMPUTE_CTL_"), "{inherited}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 7);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_command_line_wins() {
    let folder = tempfile::tempdir().unwrap();
    let good = document(&folder, "good.json");
    let missing = folder.path().join("missing.json").display().to_string();
    let can_be_used = format!("{good} can be used\n");

    let by_variable = check(&[], &[("COMPUTE_CTL_CONFIG", &good)]).await;
    assert!(by_variable.stdout.ends_with(&can_be_used), "{by_variable:?}");
    // Over the same flag, over those of its group, and over those that it conflicts with.
    for env in [
        [("COMPUTE_CTL_CONFIG", missing.as_str())].as_slice(),
        &[("COMPUTE_CTL_SPEC", &missing)],
        &[("COMPUTE_CTL_SPEC", &missing), ("COMPUTE_CTL_CONFIG", &missing)],
    ] {
        let ran = check(&["--config", &good], env).await;
        assert!(ran.code == Some(0) && ran.stdout.ends_with(&can_be_used), "{env:?}: {ran:?}");
    }
    let ran = check(&["-c", &good, "--show-conf"], &[("COMPUTE_CTL_JSON", "true")]).await;
    assert!(ran.stdout.ends_with(&can_be_used), "{ran:?}");
    let ran = check(&["-c", &good, "--json"], &[("COMPUTE_CTL_SHOW_CONF", "1")]).await;
    assert!(ran.stdout.starts_with('{'), "{ran:?}");

    // Two variables of one group: which one is meant is not known.
    let both = [("COMPUTE_CTL_CONFIG", good.as_str()), ("COMPUTE_CTL_SPEC", good.as_str())];
    let ran = check(&[], &both).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    for (name, _) in both {
        assert!(ran.stderr.contains(&format!("by the variable {name}")), "{ran:?}");
    }
}

#[tokio::test]
async fn switches_and_empty_values() {
    let folder = tempfile::tempdir().unwrap();
    let good = document(&folder, "good.json");
    for (value, json) in [("true", true), ("1", true), ("false", false), ("0", false), ("", false)]
    {
        let ran = check(&["-c", &good], &[("COMPUTE_CTL_JSON", value)]).await;
        assert_eq!(ran.code, Some(0), "{value}: {ran:?}");
        assert_eq!(ran.stdout.starts_with('{'), json, "{value}: {ran:?}");
    }
    // A switch that is off needs nothing: --plan needs --connstr.
    let off = check(&["-c", &good], &[("COMPUTE_CTL_PLAN", "false")]).await;
    assert_eq!(off.code, Some(0), "{off:?}");

    let plain = check_with_env(&["-c", &good], &[]).await;
    let empty = ["POSTGRES_PATH", "COMPUTE_CTL_RUN_AS", "COMPUTE_CTL_INTERNAL_HTTP_PORT"];
    for name in empty {
        let ran = check_with_env(&["-c", &good], &[(name, "")]).await;
        assert_eq!(ran.good(), plain.good(), "{name}");
    }
    let unset = check(&[], &[("COMPUTE_CTL_CONFIG", "")]).await;
    assert_eq!(unset.code, Some(2), "{unset:?}");
    assert!(unset.stderr.contains("--config <FILE>"), "{unset:?}");
}

#[tokio::test]
async fn a_bad_value_is_refused_by_the_name_of_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let good = document(&folder, "good.json");
    for (name, value) in [
        ("COMPUTE_CTL_JSON", "yes"),
        ("COMPUTE_CTL_INTERNAL_HTTP_PORT", "65536"),
        ("COMPUTE_CTL_PRIVILEGED_ROLE_NAME", "Abc"),
    ] {
        let ran = check(&["-c", &good], &[(name, value)]).await;
        assert_eq!(ran.code, Some(2), "{name}: {ran:?}");
        assert!(ran.stderr.starts_with("error: invalid value"), "{ran:?}");
        assert!(ran.stderr.contains(&format!("by the variable {name}")), "{ran:?}");
    }
    // One of the program, not one of a flag on the line.
    let ran = check(&["-c", &good, "--internal-http-port", "x"], &[]).await;
    assert!(ran.code == Some(2) && !ran.stderr.contains("variable"), "{ran:?}");

    let mut command = std::process::Command::new(program());
    command.args(["check", "-c", &good]);
    command.env("COMPUTE_CTL_CONNSTR", OsStr::from_bytes(b"postgresql://planted\xff"));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("COMPUTE_CTL_CONNSTR") && !text.contains("planted"), "{text}");

    // As the form of the log is wanted.
    let env = [("COMPUTE_CTL_LOG_FORMAT", "json"), ("COMPUTE_CTL_STOP_TIMEOUT", "soon")];
    let ran = client_with_env(&[], &env).await;
    let record: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert!(record.to_string().contains("COMPUTE_CTL_STOP_TIMEOUT"), "{record}");
}

#[tokio::test]
async fn variables_that_others_set_have_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let good = document(&folder, "good.json");
    for env in [
        // Of a service in Kubernetes.
        ("COMPUTE_CTL_INTERNAL_HTTP_PORT", "tcp://10.0.0.1:3081"),
        // Of other commands.
        ("COMPUTE_CTL_EXTERNAL_HTTP_PORT", "x"),
        ("COMPUTE_CTL_TIMEOUT", "soon"),
        ("COMPUTE_CTL_SAFEKEEPERS", "x"),
    ] {
        let ran = check(&["-c", &good], &[env]).await;
        assert_eq!(ran.code, Some(0), "{env:?}: {ran:?}");
    }
    // The commands that ask the internal server have another default, so another variable.
    let url = "http://127.0.0.1:1";
    let ran =
        client_with_env(&["logs"], &[("COMPUTE_CTL_URL", "?"), ("COMPUTE_CTL_INTERNAL_URL", url)])
            .await;
    assert!(ran.stderr.contains(url), "{ran:?}");
    // Help needs no variable that can be used.
    let ran = check(&["--help"], &[("COMPUTE_CTL_JSON", "yes")]).await;
    assert!(ran.code == Some(0) && ran.stdout.contains("POSTGRES_PATH]"), "{ran:?}");
}
