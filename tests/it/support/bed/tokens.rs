//! Keys and tokens, good ones and forged ones.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use ring::{hmac, rsa};
use serde_json::{Value, json};

const RSA_PRIVATE: &str = include_str!("../../../keys/rs256.pkcs1.base64");
const RSA_MODULUS: &str = include_str!("../../../keys/rs256.modulus.base64url");

/// A part of a token.
pub fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Header and payload as they are signed.
fn message(header: &Value, payload: &Value) -> String {
    format!("{}.{}", part(header), part(payload))
}

fn signed(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An Ed25519 key pair.
pub struct EdKey(Ed25519KeyPair);

impl EdKey {
    pub fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    pub fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// The key as a control plane writes it.
    pub fn jwk(&self) -> Value {
        json!({
            "use": "sig", "key_ops": ["verify"], "alg": "EdDSA", "kid": "k1",
            "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.public())
        })
    }

    pub fn sign(&self, payload: &Value) -> String {
        self.sign_with_header(&json!({"alg": "EdDSA", "typ": "JWT"}), payload)
    }

    /// Signs with any header.
    pub fn sign_with_header(&self, header: &Value, payload: &Value) -> String {
        let message = message(header, payload);
        let signature = self.0.sign(message.as_bytes());
        signed(&message, signature.as_ref())
    }
}

/// A MAC in place of a signature.
pub fn hs256(secret: &[u8], header: &Value, payload: &Value) -> String {
    let message = message(header, payload);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    signed(&message, tag.as_ref())
}

/// The RSA key of the tests.
pub fn rsa_jwk() -> Value {
    let modulus: String = RSA_MODULUS.split_whitespace().collect();
    json!({"alg": "RS256", "kty": "RSA", "kid": "r1", "n": modulus, "e": "AQAB"})
}

pub fn rs256(payload: &Value) -> String {
    let der: String = RSA_PRIVATE.split_whitespace().collect();
    let key = RsaKeyPair::from_der(&STANDARD.decode(der).unwrap()).unwrap();
    let message = message(&json!({"alg": "RS256"}), payload);
    let mut signature = vec![0; rsa::PublicKey::modulus_len(key.public())];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    signed(&message, &signature)
}
