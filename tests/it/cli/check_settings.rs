//! `compute_ctl check` and the Postgres of the start: it reads the settings, and the document is
//! compared with the other arguments of the start.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{check, check_with_env};
use crate::support::server::on_one_server;

/// No folder has a server.
const NO_POSTGRES: [(&str, &str); 2] = [("PATH", "/nonexistent"), ("COMPUTE_CTL_PG_PATH", "")];
const KEY: &str = "SvNEwrXCy0Gy7sCfcCoCa4XUhX4ay9rmGB1p_dT3_xU";

#[tokio::test]
async fn postgres_itself_reads_the_settings() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let pgbin = bed.server.program("postgres").display().to_string();
        let with = |name: &str, value: &str, vartype: &str| {
            let mut spec = bed.spec.clone();
            spec.typed(name, value, vartype);
            bed.write("config.json", &spec.config()).display().to_string()
        };
        let config = with("work_mem", "7MB", "string");
        let checked = check(&["-c", &config, "--pgbin", &pgbin]).await;
        assert!(checked.good().contains(" takes the settings\n"), "{checked:?}");
        for (name, value, vartype, said) in [
            ("no_such", "1", "string", "unrecognized configuration parameter \"no_such\""),
            ("shared_buffers", "lots", "string", "invalid value for parameter \"shared_buffers\""),
            ("wal_level", "'none'", "enum", "invalid value for parameter \"wal_level\""),
            ("max_connections", "-7", "integer", "outside the valid range"),
            ("shared_preload_libraries", "no_such_lib", "string", "names `no_such_lib`, but "),
        ] {
            let config = with(name, value, vartype);
            let checked = check(&["-c", &config, "--pgbin", &pgbin]).await;
            assert!(checked.bad().contains(said), "{checked:?}");
        }
        let config = with("work_mem", "7MB", "string");
        let checked = check_with_env(&["-c", &config], &NO_POSTGRES).await;
        assert!(checked.good().contains("warning: whether PostgreSQL takes"), "{checked:?}");
        assert!(checked.good().contains("was not checked"), "{checked:?}");
        // `check` runs in the root folder.
        let checked = check(&["-c", &config, "--pgbin", &format!(".{pgbin}")]).await;
        assert!(checked.good().contains(&format!("({pgbin}) takes the settings\n")), "{checked:?}");
        if geteuid().is_root() {
            // Only root can run it.
            let folder = tempfile::tempdir().unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
            let link = folder.path().join("postgres");
            symlink(&pgbin, &link).unwrap();
            let checked = check(&["-c", &config, "--pgbin", &link.display().to_string()]).await;
            assert!(checked.bad().contains("could not start `"), "{checked:?}");
        }
        let checked = check(&["-c", &config, "--pgbin", "/bin/ls"]).await;
        assert!(checked.bad().contains("/bin/ls is not"), "{checked:?}");
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn the_port_is_compared_with_the_command_line() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let config = bed.write("config.json", &bed.spec.config()).display().to_string();
        check(&["-c", &config, "-C", &bed.connstr()]).await.good();
        let checked = check(&["-c", &config, "-C", "postgresql://cloud_admin@localhost:1/d"]).await;
        let text = format!("port 1, but Postgres will listen on port {}", bed.port);
        assert!(checked.bad().contains(&text), "{checked:?}");
        let checked = check(&["-c", &config, "-C", "host=localhost port=1"]).await;
        assert!(checked.bad().contains("postgresql://USER@HOST:PORT/DB"), "{checked:?}");
    })
    .await;
}

fn config(x: &str) -> Value {
    json!({
        "spec": {
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "cluster": {"roles": [], "databases": [], "settings": []},
            "tenant_id": "51b0c7e2a94d4c06b3f7d1e8a2640f9c",
            "timeline_id": "e7d25a1c90b84f3fa6120c4b8d93f57e",
            "pageserver_connstring": "postgres://no_user@127.0.0.1:1",
            "safekeeper_connstrings": ["127.0.0.1:1"]
        },
        "compute_ctl_config": {"jwks": {"keys": [
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x}
        ]}}
    })
}

#[tokio::test]
async fn keys_typing_errors_and_machine_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let name = path.display().to_string();
    let write = |document: &str| std::fs::write(&path, document).unwrap();
    write(&config(KEY).to_string());
    check(&["-c", &name, "--strict"]).await.good();
    for x in [format!("{KEY}\n"), format!(" {KEY}"), format!("{KEY}="), KEY[..9].to_owned()] {
        write(&config(&x).to_string());
        let checked = check(&["-c", &name]).await;
        let text = "compute_ctl_config.jwks.keys[0] cannot be used: ";
        assert!(checked.bad().contains(text), "{checked:?}");
    }

    let mut document = config(KEY);
    document["spec"]["cluster"]["setings"] = json!([]);
    write(&document.to_string());
    let unknown = "unknown member: spec.cluster.setings, did you mean `settings`?";
    let checked = check(&["-c", &name]).await;
    assert!(checked.good().contains(&format!("warning: {unknown}\n")), "{checked:?}");
    let checked = check(&["-c", &name, "--strict"]).await;
    assert!(checked.bad().contains(&format!("Error: {unknown}\n")), "{checked:?}");

    let machine = async |args: &[&str]| {
        let checked = check(&[&["-c", &name, "--json"], args].concat()).await;
        assert_eq!(checked.stderr, "");
        let value: Value = serde_json::from_str(&checked.stdout).unwrap();
        assert_eq!(value["usable"], json!(checked.code == Some(0)), "{checked:?}");
        value["findings"].as_array().unwrap().clone()
    };
    let finding = |severity: &str| json!({"severity": severity, "path": "spec.cluster.setings", "message": unknown});
    assert!(machine(&[]).await.contains(&finding("warning")));
    assert!(machine(&["--strict"]).await.contains(&finding("error")));
    document["spec"].as_object_mut().unwrap().remove("timeline_id");
    document["spec"]["cluster"]["roles"] = json!([{"name": 7}]);
    write(&document.to_string());
    let findings = machine(&[]).await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0]["path"], "spec.cluster.roles[0].name");
}

/// A start here would end at once.
#[tokio::test]
async fn what_a_start_needs_besides_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let name = path.display().to_string();
    let empty = json!({"compute_ctl_config": config(KEY)["compute_ctl_config"]});
    for document in [config(KEY), empty] {
        std::fs::write(&path, document.to_string()).unwrap();
        check_with_env(&["-c", &name], &NO_POSTGRES).await.good();
        let unknown = "no-such-user-here";
        let named = check_with_env(&["-c", &name, "--run-as", unknown], &NO_POSTGRES).await;
        assert!(
            named.bad().contains("there is no user `no-such-user-here` (--run-as):"),
            "{named:?}"
        );
        for (variable, part) in [
            (("AUTOSCALING", ""), "no folder of PATH has that program"),
            (("COMPUTE_CTL_RUN_AS", unknown), "(--run-as) (from the variable COMPUTE_CTL_RUN_AS)"),
            (("PGBOUNCER_PASSWORD", "a\nplanted"), "PGBOUNCER_PASSWORD "),
        ] {
            let env = [&NO_POSTGRES[..], &[variable]].concat();
            let checked = check_with_env(&["-c", &name], &env).await;
            assert!(checked.bad().contains(part), "{checked:?}");
            assert!(!checked.stderr.contains("planted"), "{checked:?}");
            assert_eq!(checked.stderr.lines().count(), 1, "{checked:?}");
        }
    }
}

#[tokio::test]
async fn errors_say_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let name = path.display().to_string();
    let spec = config(KEY)["spec"].to_string();
    let good = config(KEY).to_string();
    for (flag, text, part) in [
        ("-c", &*spec, "give"),
        ("-S", &good, "with --config"),
        ("-c", "", "the file is empty"),
        ("-S", " \n\t", "the file is empty"),
        ("-c", "\u{feff}{}", "byte order mark"),
        ("-c", "{\"spec\": null,}", "a comma before"),
        ("-c", "{ // note\n}", "no comments"),
    ] {
        std::fs::write(&path, text).unwrap();
        let checked = check(&[flag, &name]).await;
        assert!(checked.bad().contains(part), "{checked:?}");
        assert_eq!(checked.stderr.matches(part).count(), 1, "{checked:?}");
        assert_eq!(checked.stderr.lines().count(), 1, "{checked:?}");
        assert!(!checked.stderr.contains("?:"), "{checked:?}");
        assert!(!checked.stderr.contains("pipe"), "{checked:?}");
    }
}

#[tokio::test]
async fn the_sample_is_accepted() {
    let sample = check(&["--sample"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.json");
    std::fs::write(&path, sample.good()).unwrap();
    let checked = check(&["--strict", "-c", &path.display().to_string()]).await;
    assert!(!checked.good().contains("unknown member"), "{checked:?}");
}
