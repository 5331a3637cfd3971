//! `compute_ctl token`: tokens that a compute accepts, and what is said about those that it refuses.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Ran, client};
use crate::support::server::on_one_server;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// `token new` with the key of this folder. Returns the public key and the token.
    async fn make(&self, args: &[&str]) -> (Value, String) {
        let key = self.path("key.pem");
        let ran = client(&[&["token", "new", "--key", &key], args].concat()).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let (public, token) = ran.stdout.split_once('\n').unwrap();
        (serde_json::from_str(public).unwrap(), token.trim_end().to_owned())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn verify(&self, keys: &[&Value], token: &str, args: &[&str]) -> Ran {
        let jwks = self.write("jwks.json", &json!({ "keys": keys }).to_string());
        let token = self.write("token", token);
        client(&[&["token", "verify", &token, "--jwks", &jwks], args].concat()).await
    }
}

fn mode(path: &str) -> u32 {
    Path::new(path).metadata().unwrap().permissions().mode() & 0o777
}

#[track_caller]
fn assert_refused(ran: &Ran, text: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("Error: ") && ran.stderr.contains(text), "{ran:?}");
}

#[tokio::test]
async fn a_compute_accepts_the_tokens_of_a_configured_key() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let folder = Folder::new();
        let (public, token) = folder.make(&["--compute-id", "c1"]).await;
        let (_, other) = folder.make(&["--compute-id", "c2"]).await;
        let (_, admin) = folder.make(&["--scope", "admin", "--expires", "never"]).await;
        let mut config = bed.spec.config();
        config["compute_ctl_config"]["jwks"]["keys"] = json!([public]);
        let config = bed.write("keys.json", &config).display().to_string();
        let mut compute = bed.start_with(&["--compute-id", "c1", "--config", &config]);
        compute.authorize(&admin);
        compute.wait_for("running").await;

        // What `verify` says is what the server does.
        for (token, answer) in [(&token, 200), (&admin, 200), (&other, 403)] {
            compute.authorize(token);
            let (code, body) = compute.get("/status").await;
            assert_eq!(code.as_u16(), answer, "{body}");
            let file = folder.write("token", token);
            let line = ["token", "verify", &file, "--config", &config, "--compute-id", "c1"];
            let ran = client(&line).await;
            match answer {
                200 => assert_eq!(ran.code, Some(0), "{ran:?}"),
                _ => assert_refused(&ran, "403 Forbidden, `invalid compute ID"),
            }
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn files_are_private_and_never_replaced_by_accident() {
    let folder = Folder::new();
    let (key, out) = (folder.path("key.pem"), folder.path("out"));
    let line = ["token", "new", "--key", &key, "--compute-id", "c1", "--out", &out];
    let ran = client(&line).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let public: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((mode(&key), mode(&out)), (0o600, 0o600));
    let (pem, token) =
        (std::fs::read_to_string(&key).unwrap(), std::fs::read_to_string(&out).unwrap());
    assert!(!ran.stderr.contains(pem.lines().nth(1).unwrap()), "{ran:?}");

    assert_refused(&client(&line).await, "exists already");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), token);
    // The key is used again, also with --force.
    let again = client(&[&line[..], &["--force", "--expires", "7d"]].concat()).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(serde_json::from_str::<Value>(&again.stdout).unwrap(), public);
    assert_eq!(std::fs::read_to_string(&key).unwrap(), pem);
    assert_ne!(std::fs::read_to_string(&out).unwrap(), token);
    assert_eq!(mode(&out), 0o600);

    std::fs::write(&key, "planted").unwrap();
    let bad = client(&["token", "new", "--key", &key, "--compute-id", "c1"]).await;
    assert_refused(&bad, "cannot be used");
    assert!(!bad.stderr.contains("planted"), "{bad:?}");
    let nothing = client(&["token", "new", "--key", &key]).await;
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
}

#[tokio::test]
async fn verify_says_whom_a_token_opens_and_until_when() {
    let folder = Folder::new();
    let (public, token) = folder.make(&["--compute-id", "c1", "--expires", "30m"]).await;
    let good = folder.verify(&[&public], &token, &[]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.starts_with("accepted: it opens the compute c1, until 20"), "{good:?}");
    let (_, admin) = folder.make(&["--scope", "admin", "--expires", "never"]).await;
    let all = folder.verify(&[&public], &admin, &["--compute-id", "any"]).await;
    let sentence = "accepted: it opens every compute that has the key, without end\n";
    assert_eq!((all.code, all.stdout.as_str()), (Some(0), sentence));

    let other = folder.verify(&[&public], &token, &["--compute-id", "c2"]).await;
    assert_refused(&other, "403 Forbidden");
    assert_refused(&folder.verify(&[], &token, &[]).await, "no keys are configured");
    let forged = token.replace('.', ".e");
    assert_refused(&folder.verify(&[&public], &forged, &[]).await, "401 Unauthorized");
    assert_refused(&folder.verify(&[&public], "x", &[]).await, "three parts");
    let stranger = Folder::new().make(&["--compute-id", "c1"]).await.0;
    assert_refused(&folder.verify(&[&stranger], &token, &[]).await, "accepts its signature");
}

#[tokio::test]
async fn an_rsa_key_of_openssl_signs_with_rs256() {
    let folder = Folder::new();
    // The message has the command that makes the key.
    let key = folder.path("key.pem");
    let line = ["token", "new", "--key", &key, "--compute-id", "c1", "--algorithm"];
    let none = client(&[&line[..], &["RS256"]].concat()).await;
    assert_refused(&none, "this command makes keys for EdDSA only");
    assert!(!Path::new(&key).exists());
    let command = none.stderr.split('`').nth(1).unwrap();
    let made = tokio::process::Command::new("sh").args(["-c", command]).output().await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let other = client(&[&line[..], &["EdDSA"]].concat()).await;
    assert_refused(&other, &format!("the key {key} is for RS256, not for EdDSA"));

    let (public, token) = folder.make(&["--compute-id", "c1", "--algorithm", "RS256"]).await;
    assert_eq!((&public["kty"], &public["alg"]), (&json!("RSA"), &json!("RS256")));
    let good = folder.verify(&[&public], &token, &[]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    // Such a key switches the whole set to RS256.
    let (ed, ed_token) = Folder::new().make(&["--compute-id", "c1"]).await;
    let mixed = folder.verify(&[&ed, &public], &ed_token, &[]).await;
    assert_refused(&mixed, "another algorithm");
    assert!(mixed.stderr.contains("key no. 1 cannot be used"), "{mixed:?}");
}
