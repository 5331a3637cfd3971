//! Shared parts of the tests: keys, tokens, and the state of handlers without servers. The keys
//! were made for these tests and open nothing.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::api::Api;
use super::limits::HttpLimits;
use crate::node::requests::Request;
use crate::node::{ComputeNode, ComputeParams};
use crate::os::children::Children;
use crate::server::ServerTasks;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::LogSink;

/// An Ed25519 key pair.
pub(super) struct EdKey {
    /// PKCS #8, DER, base64.
    private: &'static str,
    /// Public key as in a JWK.
    pub(super) x: &'static str,
}

/// The key that signs valid tokens.
pub(super) const ED_KEY: EdKey = EdKey {
    private: "MC4CAQAwBQYDK2VwBCIEIO2oKi5+oFGiHhTyYJmyc7Xaha0H3mFmR4WpL1PmUnoi",
    x: "c5TA3s9xtOxhMQNeTbYFQVyQheg3Il00z6aALQ3pUeE",
};

/// A key that the compute does not trust.
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
pub(super) fn node() -> (Arc<ComputeNode>, UnboundedReceiver<Request>) {
    let params = ComputeParams::for_tests();
    let log = LogSink::new(std::io::sink()).unwrap();
    ComputeNode::new(params, None, Children::new(), log, Metrics::new().unwrap())
}

/// State of handlers, without servers.
pub(super) fn api() -> Api {
    Api::of(node().0, HttpLimits::default(), ServerTasks::default())
}
