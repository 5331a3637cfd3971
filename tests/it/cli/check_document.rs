//! `compute_ctl check` offline: which documents are usable, and which members are unknown.

use serde_json::{Value, json};

use crate::support::process::check;

fn document() -> Value {
    json!({
        "spec": {
            "format_version": 1.0, "suspend_timeout_seconds": -1,
            "cluster": {"roles": [], "databases": [], "settings": []},
            "tenant_id": "51b0c7e2a94d4c06b3f7d1e8a2640f9c",
            "timeline_id": "e7d25a1c90b84f3fa6120c4b8d93f57e",
            "pageserver_connstring": "postgres://no_user:planted@127.0.0.1:1",
            "safekeeper_connstrings": ["127.0.0.1:1"],
            "storage_auth_token": "planted"
        },
        "compute_ctl_config": {"jwks": {"keys": []}}
    })
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, text: &str) -> String {
        let path = self.0.path().join("document.json");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

#[tokio::test]
async fn a_good_document() {
    let folder = Folder::new();
    let path = folder.write(&document().to_string());
    let checked = check(&["--config", &path]).await;
    assert!(checked.good().contains("tenant 51b0c7e2a94d4c06b3f7d1e8a2640f9c"), "{checked:?}");
    assert!(checked.good().ends_with(&format!("{path} can be used\n")), "{checked:?}");
    let path = folder.write(&document()["spec"].to_string());
    let checked = check(&["-S", &path]).await;
    assert!(checked.good().contains("mode primary"), "{checked:?}");
    let path = folder.write(&json!({"compute_ctl_config": {"jwks": {"keys": []}}}).to_string());
    let checked = check(&["-c", &path]).await;
    assert!(checked.good().contains("there is no spec"), "{checked:?}");
    // It changes no file.
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn unknown_members_are_listed_and_accepted() {
    let folder = Folder::new();
    let mut document = document();
    document["spec"]["cluster"]["roles"] = json!([{"name": "ann", "colour": "red"}]);
    document["compute_ctl_config"]["jwks"]["x_new"] = json!({"planted": 1});
    let path = folder.write(&document.to_string());
    let checked = check(&["--config", &path]).await;
    for member in ["spec.cluster.roles[0].colour", "compute_ctl_config.jwks.x_new"] {
        let line = format!("warning: unknown member: {member}\n");
        assert!(checked.good().contains(&line), "{checked:?}");
    }
    let path = folder.write(&document["spec"].to_string());
    let checked = check(&["-S", &path]).await;
    assert!(
        checked.good().contains("warning: unknown member: cluster.roles[0].colour\n"),
        "{checked:?}"
    );
}

#[tokio::test]
async fn bad_documents_are_named() {
    let folder = Folder::new();
    let broken = |change: fn(&mut Value)| {
        let mut document = document();
        change(&mut document);
        document.to_string()
    };
    let setting = |name: &str, value: Value, vartype: &str| {
        let mut document = document();
        document["spec"]["cluster"]["settings"] =
            json!([{"name": name, "value": value, "vartype": vartype}]);
        document.to_string()
    };
    for (text, error) in [
        ("{".to_owned(), "document.json: "),
        (
            broken(|d| d["spec"]["cluster"]["roles"] = json!([{"name": 7}])),
            "spec.cluster.roles[0].name: ",
        ),
        (
            broken(|d| d["spec"]["safekeeper_connstrings"] = json!(["a:1", "a:1"])),
            "duplicate entry in safekeeper_connstrings: a:1",
        ),
        (
            broken(|d| d["spec"]["cluster"]["postgresql_conf"] = json!("a='planted")),
            "line 1 (setting a): a quote is not closed",
        ),
        (setting("a b", json!("1"), "string"), "\"a b\" in cluster.settings"),
        (setting("work_mem", json!("planted's"), "integer"), "setting work_mem"),
    ] {
        let path = folder.write(&text);
        let checked = check(&["--config", &path, "--show-conf"]).await;
        assert!(checked.bad().contains(error), "{checked:?}");
        assert!(!checked.stderr.contains("planted"), "{checked:?}");
    }
    let checked = check(&["--config", "/nonexistent/config.json"]).await;
    assert!(checked.bad().contains("/nonexistent/config.json"), "{checked:?}");
    assert_eq!(check(&[]).await.code, Some(2));
}

#[tokio::test]
async fn passwords_that_are_not_hashes_are_remarked_upon() {
    let folder = Folder::new();
    let mut document = document();
    document["spec"]["cluster"]["roles"] = json!([
        {"name": "ann", "encrypted_password": ""}, {"name": "bob", "encrypted_password": "planted"},
        {"name": "cat", "encrypted_password": null}
    ]);
    let path = folder.write(&document.to_string());
    let checked = check(&["--config", &path]).await;
    let text = checked.good();
    assert!(text.contains("warning: encrypted_password of role \"ann\" is empty"), "{checked:?}");
    assert!(text.contains("warning: encrypted_password of role \"bob\" is neither"), "{checked:?}");
    assert!(!text.contains("planted") && !text.contains("\"cat\""), "{checked:?}");
}
