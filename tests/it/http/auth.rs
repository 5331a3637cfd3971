//! Tokens against the real binary (03 §4, T1 to T4): accepted tokens, and every attack.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::{PATIENCE, assert_nothing_left};
use crate::support::bed::{Bed, EdKey, hs256, part, rs256, rsa_jwk};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

const MALFORMED: (u16, &str) = (400, "invalid authorization token");
const UNVERIFIED: (u16, &str) = (401, "failed to verify authorization token");
const PASS: (u16, &str) = (200, "");

/// An empty compute `c1` with these keys; without the exemption for local clients.
async fn start(bed: &Bed, keys: Value) -> Compute {
    let config = json!({"compute_ctl_config": {"jwks": {"keys": keys}}});
    let config = bed.write("config.json", &config);
    let mut line = bed.base_args();
    line.retain(|argument| argument != "--dev");
    line.extend(["--compute-id", "c1", "--config"].map(str::to_owned));
    line.push(config.display().to_string());
    let compute = Compute::spawn(bed, &line, &[]);
    compute.wait_for_log("HTTP servers are listening").await;
    compute
}

/// Sends `GET /status` with these header lines. Returns the status code, and the error if any.
fn ask(bed: &Bed, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", bed.external_port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    (code, body["error"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn expect(bed: &Bed, what: &str, headers: &str, (code, text): (u16, &str)) {
    let answer = ask(bed, headers);
    assert_eq!((answer.0, answer.1.as_str()), (code, text), "{what}");
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn attacks() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.fake_postgres();
        let (key, stranger) = (EdKey::new(), EdKey::new());
        let mut without_kid = key.jwk();
        without_kid.as_object_mut().unwrap().remove("kid");
        // The right key is not the first one, and has no id.
        let mut compute = start(&bed, json!([EdKey::new().jwk(), without_kid])).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (own, admin) = (json!({"compute_id": "c1"}), "compute_ctl:admin");
        let good = key.sign(&own);
        let ed = json!({"alg": "EdDSA"});

        // The table of §4.2, and claims of other types.
        let missing_id = (403, "missing compute_id in authorization token claims");
        let other_id = (403, "invalid compute ID in authorization token claims");
        let no_audience = (401, "missing audience in authorization token claims");
        let other_audience = (401, "invalid audience in authorization token claims");
        let c1 = |name: &str, value: Value| json!({"compute_id": "c1", name: value});
        for (payload, expected) in [
            (own.clone(), PASS),
            (json!({"compute_id": "c1", "scope": null, "aud": null}), PASS),
            (json!({"compute_id": "c1", "aud": ["x"], "nbf": now + 99, "iss": "x"}), PASS),
            (json!({"scope": admin, "aud": ["a", "compute"]}), PASS),
            (json!({"scope": admin, "aud": ["compute"], "compute_id": "zz"}), PASS),
            (c1("exp", json!(now + 3600)), PASS),
            (c1("exp", json!(now - 30)), PASS),
            (c1("exp", json!(now - 3600)), UNVERIFIED),
            (c1("exp", json!(0)), UNVERIFIED),
            (c1("exp", json!(-1)), UNVERIFIED),
            (c1("exp", json!(null)), UNVERIFIED),
            (c1("exp", json!("2100-01-01")), UNVERIFIED),
            (c1("exp", json!((now + 3600).to_string())), UNVERIFIED),
            (c1("exp", json!(true)), UNVERIFIED),
            (c1("exp", json!([now + 3600])), UNVERIFIED),
            (c1("exp", json!({"a": 1})), UNVERIFIED),
            (json!({}), missing_id),
            (json!({"compute_id": null}), missing_id),
            (json!({"compute_id": "c2"}), other_id),
            (json!({"compute_id": "C1"}), other_id),
            (json!({"compute_id": "c1 "}), other_id),
            (json!({"compute_id": ""}), other_id),
            (json!({"compute_id": 1}), UNVERIFIED),
            (json!({"compute_id": ["c1"]}), UNVERIFIED),
            (json!({"compute_id": "c2", "aud": ["compute"]}), other_id),
            (json!({"scope": admin}), no_audience),
            (json!({"scope": admin, "aud": []}), other_audience),
            (json!({"scope": admin, "aud": ["x"]}), other_audience),
            (json!({"scope": admin, "aud": "compute"}), UNVERIFIED),
            (json!({"scope": "something", "compute_id": "c1"}), UNVERIFIED),
            (json!({"scope": [admin], "aud": ["compute"]}), UNVERIFIED),
            (json!([]), UNVERIFIED),
            (json!("c1"), UNVERIFIED),
        ] {
            expect(&bed, &payload.to_string(), &bearer(&key.sign(&payload)), expected);
        }

        // Forged signatures and headers.
        let (message, signature) = good.rsplit_once('.').unwrap();
        let payload = part(&own);
        let none =
            |header: Value, signature: &str| format!("{}.{payload}.{signature}", part(&header));
        for (what, token) in [
            ("another key", stranger.sign(&own)),
            ("alg none, no signature", none(json!({"alg": "none"}), "")),
            ("alg None", none(json!({"alg": "None"}), "")),
            ("alg none, a good signature", none(json!({"alg": "none"}), signature)),
            ("no alg", none(json!({}), signature)),
            ("alg eddsa", none(json!({"alg": "eddsa"}), signature)),
            ("alg in a list", none(json!({"alg": ["EdDSA"]}), signature)),
            ("HS256 with the public key", hs256(key.public(), &json!({"alg": "HS256"}), &own)),
            ("a MAC that says EdDSA", hs256(key.public(), &ed, &own)),
            ("RS256", rs256(&own)),
            ("no signature", format!("{message}.")),
            ("two parts", message.to_owned()),
            ("four parts", format!("{good}.x")),
            ("a cut signature", good[..good.len() - 4].to_owned()),
            ("padding", format!("{good}==")),
            ("another payload", format!("{}.{}.{signature}", part(&ed), part(&json!({"x": 1})))),
            (
                "a critical extension",
                key.sign_with_header(&json!({"alg": "EdDSA", "crit": ["exp"]}), &own),
            ),
            ("not base64", "a.b.c".to_owned()),
            ("two tokens", format!("{good} {good}")),
            ("two tokens, comma", format!("{good},{good}")),
        ] {
            expect(&bed, what, &bearer(&token), UNVERIFIED);
        }
        // A key, URL or id in the header is ignored.
        let own_key =
            json!({"alg": "EdDSA", "jwk": stranger.jwk(), "kid": "k1", "jku": "http://x"});
        expect(&bed, "own key", &bearer(&stranger.sign_with_header(&own_key, &own)), UNVERIFIED);
        let other_kid = json!({"alg": "EdDSA", "kid": "../../etc/passwd"});
        expect(&bed, "other kid", &bearer(&key.sign_with_header(&other_kid, &own)), PASS);

        // Forms of the `Authorization` header.
        for (what, headers, expected) in [
            ("no header", String::new(), MALFORMED),
            ("lower case", format!("authorization: bearer {good}\r\n"), PASS),
            ("upper case", format!("AUTHORIZATION: BEARER {good}\r\n"), PASS),
            ("blanks", format!("Authorization:   Bearer    {good}  \r\n"), PASS),
            ("a tab", format!("Authorization: Bearer\t{good}\r\n"), PASS),
            ("two headers", bearer(&good).repeat(2), MALFORMED),
            ("a bad one first", format!("{}{}", bearer("x"), bearer(&good)), MALFORMED),
            ("a bad one last", format!("{}Authorization: Basic x\r\n", bearer(&good)), MALFORMED),
            ("Basic", "Authorization: Basic x\r\n".to_owned(), MALFORMED),
            ("no scheme", format!("Authorization: {good}\r\n"), MALFORMED),
            ("no token", "Authorization: Bearer\r\n".to_owned(), MALFORMED),
            ("blanks for a token", "Authorization: Bearer   \r\n".to_owned(), MALFORMED),
            ("no blank", format!("Authorization: Bearer{good}\r\n"), MALFORMED),
            ("not ASCII", "Authorization: Bearer grün\r\n".to_owned(), MALFORMED),
            ("garbage", bearer("x"), UNVERIFIED),
            ("a large token", bearer(&"x".repeat(20_000)), MALFORMED),
            ("in the query only", String::new(), MALFORMED),
        ] {
            expect(&bed, what, &headers, expected);
        }
        let (code, _) = ask(&bed, &bearer(&"x".repeat(100_000)));
        assert_eq!(code, 431, "a huge token");
        expect(&bed, "all is well after all this", &bearer(&good), PASS);

        let log = compute.log();
        for secret in [signature, good.as_str()] {
            assert!(!log.contains(secret));
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// T3, T4: the key set decides which algorithm is valid.
#[tokio::test(flavor = "multi_thread")]
async fn key_sets() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        bed.fake_postgres();
        let own = json!({"compute_id": "c1"});
        let key = EdKey::new();
        let none_usable = json!([{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]);
        let empty = "no keys are configured (compute_ctl_config.jwks is empty), so no token can be \
                     accepted; configure a key, or use --dev to let in local clients";
        let useless = "none of the 1 keys in compute_ctl_config.jwks is usable";
        let locked = |(code, text): (u16, &str), why: &str| (code, format!("{text}: {why}"));
        for (keys, ed_token, rsa_token, no_token) in [
            (json!([key.jwk()]), PASS, UNVERIFIED, MALFORMED),
            (json!([rsa_jwk(), key.jwk()]), UNVERIFIED, PASS, MALFORMED),
            (json!([key.jwk(), rsa_jwk()]), UNVERIFIED, PASS, MALFORMED),
        ] {
            let mut compute = start(&bed, keys.clone()).await;
            expect(&bed, &format!("EdDSA, {keys}"), &bearer(&key.sign(&own)), ed_token);
            expect(&bed, &format!("RS256, {keys}"), &bearer(&rs256(&own)), rsa_token);
            expect(&bed, &format!("none, {keys}"), "", no_token);
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        for (keys, why) in [(json!([]), empty), (none_usable, useless)] {
            let mut compute = start(&bed, keys).await;
            assert_eq!(ask(&bed, &bearer(&key.sign(&own))), locked(UNVERIFIED, why));
            assert_eq!(ask(&bed, ""), locked(MALFORMED, why));
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}
