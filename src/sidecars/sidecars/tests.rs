//! Tests of which program is configured when.

use super::*;
use crate::sidecars::rsyslog::RsyslogPaths;
use serde_json::json;
use std::fs;
use std::time::Duration;

fn spec(members: serde_json::Value) -> ComputeSpec {
    let mut spec = json!({
        "format_version": 1, "suspend_timeout_seconds": 0,
        "cluster": {"roles": [], "databases": []}
    });
    spec.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

/// Side programs whose files are in a temporary folder, and a daemon that does not exist.
struct Bed {
    dir: tempfile::TempDir,
    params: SidecarParams,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    // A shell runs the script, because a file that was just written can still be open in a child
    // of another test, and can then not be executed.
    let helper = |name: &str| {
        let script = format!("echo {name} \"$@\" >> {}\n", path("notes").display());
        fs::write(path(name), script).unwrap();
        path(name)
    };
    let vm = VmHelpers {
        sudo: "/bin/sh".into(),
        resize_swap: helper("resize-swap"),
        set_disk_quota: helper("set-disk-quota"),
    };
    let params = SidecarParams {
        rsyslog: RsyslogPaths {
            audit: path("audit.conf"),
            export: path("export.conf"),
            work_folder: path("work"),
            program: "no-such-daemon".to_owned(),
        },
        vm,
        ..SidecarParams::default()
    };
    Bed { dir, params }
}

impl Bed {
    fn side(&self) -> Sidecars {
        let timeouts = SidecarLimits {
            rsyslog_restart: Duration::from_millis(20),
            ..SidecarLimits::default()
        };
        Sidecars::new(self.params.clone(), timeouts)
    }

    async fn start(&self, spec: &ComputeSpec) -> Result<(), String> {
        let (children, metrics) = (Children::new(), Metrics::new().unwrap());
        let pgdata = self.dir.path().join("pgdata");
        let started = self.side().before_postgres(spec, &pgdata, &children, &metrics).await;
        started.map_err(|error| format!("{error:#}"))
    }

    fn notes(&self) -> Option<String> {
        fs::read_to_string(self.dir.path().join("notes")).ok()
    }
}

/// Cases S1 and S3 of 04 §15.
#[tokio::test]
async fn swap_and_quota_need_flag_and_member() {
    let both =
        spec(json!({"swap_size_bytes": 1_073_741_824, "disk_quota_bytes": 5_368_709_120_u64}));
    let mut bed = bed();
    bed.start(&both).await.unwrap();
    assert_eq!(bed.notes(), None, "no flag");
    bed.params.resize_swap = true;
    bed.params.quota_mount_point = Some("/mnt/x".to_owned());
    bed.start(&spec(json!({}))).await.unwrap();
    assert_eq!(bed.notes(), None, "no member");
    bed.start(&both).await.unwrap();
    let notes = bed.notes().unwrap();
    let mut lines: Vec<_> = notes.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["resize-swap --once 1073741824", "set-disk-quota 5242880 /mnt/x"]);
    // Never on a reconfiguration.
    bed.side().before_rewrite(&both).await.unwrap();
    assert_eq!(bed.notes().unwrap(), notes);
}

#[tokio::test]
async fn a_failing_helper_names_itself() {
    let mut bed = bed();
    fs::write(&bed.params.vm.set_disk_quota, "exit 1\n").unwrap();
    bed.params.quota_mount_point = Some("/mnt/x".to_owned());
    let error = bed.start(&spec(json!({"disk_quota_bytes": 1}))).await.unwrap_err();
    assert!(error.starts_with("failed to set disk quota: "), "{error}");
    bed.params.vm.sudo = "/no/such/sudo".into();
    let error = bed.start(&spec(json!({"disk_quota_bytes": 1}))).await.unwrap_err();
    assert!(error.contains("could not run") && error.contains("/no/such/sudo"), "{error}");
}

/// Case R3 of 04 §15, and the other obstacles to audit forwarding.
#[tokio::test]
async fn audit_levels_that_leave_the_machine() {
    let mut bed = bed();
    for level in ["Disabled", "Log", "Base"] {
        bed.start(&spec(json!({"audit_log_level": level}))).await.unwrap();
    }
    for level in ["Hipaa", "Extended", "Full"] {
        let spec = spec(json!({"audit_log_level": level}));
        assert!(bed.side().check(&spec).is_err());
        let error = bed.start(&spec).await.unwrap_err();
        assert!(
            error.ends_with("AUDIT_LOGGING_ENDPOINT and AUDIT_LOGGING_TLS_ENDPOINT are both empty"),
            "{error}"
        );
    }
    bed.params.audit.plain = "collector.example:1".to_owned();
    let error = bed.start(&spec(json!({"audit_log_level": "Full"}))).await.unwrap_err();
    assert!(error.contains("no-such-daemon did not come back"), "{error}");
    assert!(!bed.params.rsyslog.audit.exists(), "not in force, so not there");
    bed.params.audit.tls = "collector.example".to_owned();
    let error = bed.start(&spec(json!({"audit_log_level": "Full"}))).await.unwrap_err();
    assert!(error.contains("AUDIT_LOGGING_TLS_ENDPOINT"), "{error}");
}

#[tokio::test]
async fn a_log_export_that_fails_names_the_setting() {
    let bed = bed();
    let side = bed.side();
    for (host, reason) in [
        ("c.x", "Invalid host format for Postgres logs export"),
        ("c.x:514", "no-such-daemon did not come back"),
    ] {
        let spec = spec(json!({"logs_export_host": host}));
        let error = side.before_rewrite(&spec).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("logs_export_host") && error.contains(reason), "{error}");
        assert!(!bed.params.rsyslog.export.exists());
        assert!(bed.start(&spec).await.unwrap_err().contains("logs_export_host"));
    }
    side.before_rewrite(&spec(json!({}))).await.unwrap();
}

#[tokio::test]
async fn background_work_runs_only_if_the_spec_has_settings() {
    let mut bed = bed();
    let ini = bed.dir.path().join("p.ini");
    let json_file = bed.dir.path().join("config.json");
    bed.params.pgbouncer.ini.clone_from(&ini);
    bed.params.pgbouncer.host = bed.dir.path().display().to_string();
    bed.params.local_proxy =
        LocalProxyPaths { config: json_file.clone(), pid: bed.dir.path().join("pid") };
    fs::write(&ini, "[pgbouncer]\npool_mode=x\n").unwrap();
    let key = bed.dir.path().join("program.key");
    fs::write(&key, "").unwrap();
    let (key_path, cert_path) = (key.display().to_string(), "/program.crt".to_owned());
    let files = TlsConfig { key_path, cert_path };
    let side = bed.side();
    side.in_background(&spec(json!({})), None);
    let spec = spec(json!({
        "local_proxy_config": {"tls": {"key_path": "/spec", "cert_path": "/spec"}},
        "pgbouncer_settings": {"pool_mode": "session"}
    }));
    for (tls, renewed) in [(false, false), (true, false), (true, true)] {
        if renewed {
            fs::write(&ini, "[pgbouncer]\npool_mode=x\n").unwrap();
            fs::remove_file(&json_file).unwrap();
            side.certificate_changed(&spec, Some(&files));
        } else {
            side.in_background(&spec, tls.then_some(&files));
        }
        let done = || {
            let ini = fs::read_to_string(&ini).unwrap();
            let json = fs::read_to_string(&json_file).unwrap_or_default();
            assert!(!json.contains("/spec"), "{json}");
            ini.starts_with("[pgbouncer]\npool_mode=session\n")
                && ini.contains("client_tls_sslmode=allow") == tls
                && json.contains("/program.crt") == tls
                && !json.is_empty()
        };
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// 04 §9.1 b.
#[tokio::test]
async fn a_file_of_local_proxy_that_cannot_be_written() {
    let mut bed = bed();
    let missing = bed.dir.path().join("none/config.json");
    bed.params.local_proxy.config.clone_from(&missing);
    let side = bed.side();
    side.require_local_proxy_file(&spec(json!({})), None).unwrap();
    let with = spec(json!({"local_proxy_config": {"jwks": null}}));
    let error = format!("{:#}", side.require_local_proxy_file(&with, None).unwrap_err());
    assert!(error.starts_with("local_proxy_config cannot be applied"), "{error}");
    assert!(error.contains(&missing.display().to_string()), "{error}");
}
