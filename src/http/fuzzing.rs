//! Properties of the check of tokens, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{AuthMode, Authenticator};
use super::claims::Claims;
use crate::fuzzing::lines;
use crate::spec::wire::Jwks;

const NOW: i64 = 2_000_000_000;

/// Header, claims, signature, and a whole value of `Authorization`: no token without a signature
/// of the key is accepted, and claims allow only what they say.
pub(crate) fn jwt(data: &[u8]) {
    let Some(([head, claims, signature], whole)) = lines(data) else { return };
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let token = format!("Bearer {}.{}.{}", part(head), part(claims), part(signature));
    let known = format!("Bearer {}.{}.{signature}", part(r#"{"alg":"EdDSA"}"#), part(claims));
    for value in [whole, &token, &known] {
        let Ok(value) = HeaderValue::from_str(value) else { continue };
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        assert!(authenticator().check(&headers, None, NOW).is_err());
    }
    let Ok(read) = serde_json::from_str::<Claims>(claims) else { return };
    let known = serde_json::from_str::<Known>(claims).expect("claims that were read");
    let is_admin = known.scope == Some(json!("compute_ctl:admin"));
    let audience = known.aud.as_ref().and_then(Value::as_array);
    let expected = match is_admin {
        true => audience.is_some_and(|audience| audience.contains(&json!("compute"))),
        false => known.compute_id == Some(json!("c1")),
    };
    assert_eq!(read.authorize(Some("c1")).is_ok(), expected, "{claims}");
    let expires = known.exp.as_ref().and_then(Value::as_f64);
    assert_eq!(read.is_expired(NOW), expires.is_some_and(|at| at < NOW as f64 - 60.0), "{claims}");
}

/// The claims in use, as they stand. What the others contain is not looked at, as a number that
/// no type can hold; and a list in this order is another form of a struct for serde.
#[derive(Deserialize)]
struct Known {
    compute_id: Option<Value>,
    scope: Option<Value>,
    aud: Option<Value>,
    #[serde(default)]
    exp: Option<Value>,
}

fn authenticator() -> &'static Authenticator {
    static AUTHENTICATOR: OnceLock<Authenticator> = OnceLock::new();
    AUTHENTICATOR.get_or_init(|| {
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA",
            "x": "c5TA3s9xtOxhMQNeTbYFQVyQheg3Il00z6aALQ3pUeE",
        });
        let jwks: Jwks = serde_json::from_value(json!({"keys": [key]})).expect("a key");
        Authenticator::new(&jwks, Some("c1".to_owned()), false, AuthMode::Verify)
    })
}
