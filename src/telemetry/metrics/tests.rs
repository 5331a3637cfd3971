use super::*;

fn series(metrics: &Metrics, family: &str) -> Vec<String> {
    let text = metrics.render().unwrap();
    text.lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
}

#[test]
fn one_series_tells_the_status() {
    let metrics = Metrics::new().unwrap();
    for status in ComputeStatus::ALL {
        metrics.set_status(status);
        let expected = format!(r#"compute_ctl_up{{build_tag="{BUILD_TAG}",status="{status}"}} 1"#);
        assert_eq!(series(&metrics, "compute_ctl_up"), [expected]);
    }
}

/// A scrape sees exactly one series, whatever its timing.
#[test]
fn a_scrape_never_falls_into_an_exchange() {
    let metrics = Metrics::new().unwrap();
    metrics.set_status(ComputeStatus::Empty);
    let changing = metrics.clone();
    let changes = std::thread::spawn(move || {
        for status in ComputeStatus::ALL.into_iter().cycle().take(20_000) {
            changing.set_status(status);
        }
    });
    while !changes.is_finished() {
        assert_eq!(series(&metrics, "compute_ctl_up").len(), 1);
    }
    changes.join().unwrap();
}

#[test]
fn a_collection_of_extensions_replaces_the_one_before() {
    let metrics = Metrics::new().unwrap();
    let found = |version: &str, owned_by_superuser, databases| InstalledExtension {
        name: "citext".to_owned(),
        version: version.to_owned(),
        owned_by_superuser,
        databases,
    };
    metrics.set_installed_extensions(&[found("1.5", true, 3), found("1.5", false, 1)]);
    assert_eq!(series(&metrics, "compute_installed_extensions").len(), 2);
    metrics.set_installed_extensions(&[found("1.6", true, 4)]);
    assert_eq!(
        series(&metrics, "compute_installed_extensions"),
        [
            r#"compute_installed_extensions{extension_name="citext",owned_by_superuser="1",version="1.6"} 4"#
        ]
    );
}

/// Labels are sorted by name, statuses have the form of the document.
#[test]
fn labelled_counters() {
    let metrics = Metrics::new().unwrap();
    metrics.count_cplane_request("GetConfig", Some(StatusCode::OK));
    metrics.count_cplane_request("GetConfig", Some(StatusCode::SERVICE_UNAVAILABLE));
    metrics.count_cplane_request("GetConfig", None);
    metrics.count_cplane_request("GetConfig", None);
    assert_eq!(
        series(&metrics, "compute_ctl_cplane_requests_total"),
        [
            r#"compute_ctl_cplane_requests_total{http_status="200 OK",rpc="GetConfig"} 1"#,
            r#"compute_ctl_cplane_requests_total{http_status="503 Service Unavailable",rpc="GetConfig"} 1"#,
            r#"compute_ctl_cplane_requests_total{http_status="unknown",rpc="GetConfig"} 2"#,
        ]
    );
    metrics.count_remote_ext_request("x.tar.zst", Some(StatusCode::NOT_FOUND));
    assert_eq!(
        series(&metrics, "compute_ctl_remote_ext_requests_total"),
        [
            r#"compute_ctl_remote_ext_requests_total{filename="x.tar.zst",http_status="404 Not Found"} 1"#
        ]
    );
    metrics.count_failed_migration("7");
    assert_eq!(
        series(&metrics, "compute_ctl_db_migration_failed_total"),
        [r#"compute_ctl_db_migration_failed_total{migration_id="7"} 1"#]
    );
    let to =
        |compute_id| Attachment { compute_id, instance_id: "i", tenant_id: "t", timeline_id: "l" };
    metrics.set_attached(to("a"));
    metrics.set_attached(to("b"));
    assert_eq!(
        series(&metrics, "pg_cctl_attached"),
        [
            r#"pg_cctl_attached{pg_compute_id="b",pg_instance_id="i",tenant_id="t",timeline_id="l"} 1"#
        ]
    );
}

#[test]
fn days_of_the_certificate_only_while_there_is_one() {
    let metrics = Metrics::new().unwrap();
    let days = || {
        let text = metrics.render().unwrap();
        let mut lines = text.lines().map(str::to_owned);
        lines.find_map(|line| {
            let days = line.strip_prefix("compute_ctl_tls_certificate_expiry_days ")?;
            days.parse::<f64>().ok()
        })
    };
    assert_eq!(days(), None);
    metrics.set_certificate_expiry(Some(Utc::now() + chrono::TimeDelta::days(30)));
    assert_eq!(days().unwrap().round(), 30.0);
    metrics.set_certificate_expiry(Some(Utc::now() - chrono::TimeDelta::days(2)));
    assert_eq!(days().unwrap().round(), -2.0);
    metrics.set_certificate_expiry(None);
    assert_eq!(days(), None);
}
