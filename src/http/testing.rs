//! What the tests of this module share: keys and tokens, a node whose driver pretends, and a
//! client. The keys were made for these tests and open nothing.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{AuthMode, Authenticator, HttpLimits, Servers, reserve};
use crate::node::requests::{ConfigureFailed, Request, Terminated};
use crate::node::{ComputeNode, ComputeParams};
use crate::os::children::Children;
use crate::spec::wire::Jwks;
use crate::state::Event;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;

/// An Ed25519 key pair.
pub(super) struct EdKey {
    /// PKCS #8, DER, base64.
    private: &'static str,
    /// Public key as in a JWK.
    pub(super) x: &'static str,
}

/// The key of good tokens.
pub(super) const ED_KEY: EdKey = EdKey {
    private: "MC4CAQAwBQYDK2VwBCIEIO2oKi5+oFGiHhTyYJmyc7Xaha0H3mFmR4WpL1PmUnoi",
    x: "c5TA3s9xtOxhMQNeTbYFQVyQheg3Il00z6aALQ3pUeE",
};

/// Somebody else's key.
pub(super) const OTHER_ED_KEY: EdKey = EdKey {
    private: "MC4CAQAwBQYDK2VwBCIEICd8o/D+w/sMRWSz/sfZIZyF9yzhypfIFq4V9yUQqpk4",
    x: "90FNvXP1n9L0yZBI5F1kGcCPTJ9fPr2RMMXc-uAAm5I",
};

/// PKCS #1, DER, base64.
const RSA_PRIVATE: &str = include_str!("../../tests/keys/rs256.pkcs1.base64");

/// Modulus as in a JWK.
const RSA_MODULUS: &str = include_str!("../../tests/keys/rs256.modulus.base64url");

impl EdKey {
    pub(super) fn private(&self) -> EncodingKey {
        EncodingKey::from_ed_der(&STANDARD.decode(self.private).unwrap())
    }

    pub(super) fn jwk(&self) -> Value {
        json!({
            "use": "sig", "key_ops": ["verify"], "alg": "EdDSA", "kid": "k",
            "kty": "OKP", "crv": "Ed25519", "x": self.x
        })
    }
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect()
}

pub(super) fn rsa_jwk() -> Value {
    json!({"alg": "RS256", "kty": "RSA", "n": in_one_line(RSA_MODULUS), "e": "AQAB"})
}

/// A token with any header, signed with any algorithm.
pub(super) fn sign_with(
    key: &EncodingKey,
    header: Value,
    algorithm: Algorithm,
    payload: &Value,
) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub(super) fn sign(key: &EdKey, payload: &Value) -> String {
    sign_with(&key.private(), json!({"alg": "EdDSA"}), Algorithm::EdDSA, payload)
}

pub(super) fn rs256(payload: &Value) -> String {
    let key = EncodingKey::from_rsa_der(&STANDARD.decode(in_one_line(RSA_PRIVATE)).unwrap());
    sign_with(&key, json!({"alg": "RS256", "typ": "JWT"}), Algorithm::RS256, payload)
}

/// An empty compute called `c1`.
fn node() -> (Arc<ComputeNode>, UnboundedReceiver<Request>) {
    let params = ComputeParams::for_tests();
    let log = LogSink::new(std::io::sink()).unwrap();
    ComputeNode::new(params, None, Children::new(), log, Metrics::new().unwrap())
}

/// What handlers get, without servers around them.
pub(super) fn api() -> super::Api {
    super::Api::of(node().0, HttpLimits::default())
}

/// Answers as a driver does, at once. The spec's `operation_uuid` says how a configuration ends;
/// on `stop` the driver ends without an answer.
async fn drive(node: Arc<ComputeNode>, mut requests: UnboundedReceiver<Request>) {
    let mut started = false;
    while let Some(request) = requests.recv().await {
        match request {
            Request::Configure { spec, reply } => {
                if started {
                    node.apply(Event::BeginConfiguration).unwrap();
                } else {
                    node.begin_start().unwrap();
                }
                started = true;
                let outcome = match spec.operation().as_deref() {
                    Some("stop") => return,
                    Some("fail") => {
                        node.fail("no \"luck\"".to_owned()).unwrap();
                        Err(ConfigureFailed("no \"luck\"".to_owned()))
                    }
                    _ => {
                        node.apply(Event::Succeeded).unwrap();
                        Ok(())
                    }
                };
                let _ = reply.send(outcome);
            }
            Request::Terminate { reply } => {
                let terminated = Terminated { lsn: Some("0/1F30EC8".parse().unwrap()) };
                node.end(terminated, None).unwrap();
                let _ = reply.send(terminated);
            }
        }
    }
}

/// Both servers on free ports over an empty compute, and a client.
pub(super) struct Api {
    pub(super) node: Arc<ComputeNode>,
    pub(super) servers: Servers,
    pub(super) client: reqwest::Client,
    pub(super) token: String,
}

impl Api {
    /// Servers with the usual key.
    pub(super) fn start() -> Self {
        Self::start_with(HttpLimits::default())
    }

    pub(super) fn start_with(limits: HttpLimits) -> Self {
        let jwks: Jwks = serde_json::from_value(json!({"keys": [ED_KEY.jwk()]})).unwrap();
        let id = Some("c1".to_owned());
        Self::start_as(limits, Authenticator::new(&jwks, id, false, AuthMode::Verify))
    }

    pub(super) fn start_as(limits: HttpLimits, authenticator: Authenticator) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (node, requests) = node();
        tokio::spawn(drive(Arc::clone(&node), requests));
        let reserved = reserve(0, 0, None).unwrap();
        let servers =
            reserved.serve(&Handle::current(), Arc::clone(&node), authenticator, limits).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let token = sign(&ED_KEY, &json!({"compute_id": "c1"}));
        Self { node, servers, client, token }
    }

    pub(super) fn external(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.servers.external_port())
    }

    pub(super) fn internal(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.servers.internal_port())
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let request = self.client.get(self.external(path)).bearer_auth(&self.token);
        Answer::of(request).await
    }

    pub(super) async fn post(&self, path: &str) -> Answer {
        let request = self.client.post(self.external(path)).bearer_auth(&self.token);
        Answer::of(request).await
    }

    /// `POST /configure` with any text.
    pub(super) async fn configure_text(&self, content_type: &str, text: String) -> Answer {
        let request = self
            .client
            .post(self.external("/configure"))
            .bearer_auth(&self.token)
            .header("content-type", content_type)
            .body(text);
        Answer::of(request).await
    }

    pub(super) async fn configure(&self, body: &Value) -> Answer {
        self.configure_text("application/json", body.to_string()).await
    }

    pub(super) async fn refresh(&self) -> Answer {
        Answer::of(self.client.post(self.internal("/refresh_configuration"))).await
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let code = response.status().as_u16();
        let headers = response.headers().clone();
        Self { code, headers, text: response.text().await.unwrap() }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.text).unwrap()
    }

    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

/// A good body for `/configure`.
pub(super) fn good_body(operation: &str) -> Value {
    json!({
        "spec": {
            "format_version": 1, "suspend_timeout_seconds": 0, "operation_uuid": operation,
            "tenant_id": "88dfefdb53d20e1b4bb1feae80e8020e",
            "timeline_id": "a451a43e3c4f981f67181c3e278d7363",
            "pageserver_connstring": "postgresql://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["127.0.0.1:6500"],
            "cluster": {"roles": [], "databases": []}
        },
        "compute_ctl_config": {"jwks": {"keys": []}}
    })
}
