//! Bearer tokens on the external server (03 §4).
//!
//! The keys come from the document of the start and never change, so they are built once. This
//! module checks the form of the header and the signature; [`super::claims`] decides what the
//! claims allow. A token is never logged, only the reason why it was refused.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::claims::Claims;
use super::error::ApiError;
use super::foreign::{self, Hosts};
use super::keys::{VerifyingKey, algorithm, verifying_key};
use crate::server::Peer;
use crate::spec::wire::Jwks;

/// A token of a control plane has a few hundred bytes; a larger one is refused without any work.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Header missing or not of the form `Bearer <token>`.
pub(super) const MALFORMED: &str = "invalid authorization token";
/// No key accepts the token.
pub(super) const UNVERIFIED: &str = "failed to verify authorization token";

/// Whether protected routes need a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    /// Every protected route asks for a token.
    Verify,
    /// No token is needed. Only for Lakebase mode with an instance id, where the network policy
    /// protects the port (03 §14, W23).
    Off,
}

/// Decides which requests may use the protected routes of the external server.
#[derive(Debug)]
pub(crate) struct Authenticator {
    mode: AuthMode,
    compute_id: Option<String>,
    dev: bool,
    /// How many keys the configuration has, usable or not.
    configured_keys: usize,
    algorithm: Algorithm,
    keys: Vec<VerifyingKey>,
}

impl Authenticator {
    /// Builds the keys. Unusable ones are skipped with a warning; an empty set refuses all
    /// requests (03 §4.3), except that with `dev` it accepts clients on the loopback interface.
    pub(crate) fn new(jwks: &Jwks, compute_id: Option<String>, dev: bool, mode: AuthMode) -> Self {
        let algorithm = algorithm(jwks);
        let mut keys = Vec::with_capacity(jwks.keys.len());
        for (index, jwk) in jwks.keys.iter().enumerate() {
            match verifying_key(jwk, algorithm) {
                Ok(key) => keys.push(key),
                Err(reason) => {
                    tracing::warn!("compute_ctl_config.jwks.keys[{index}] is skipped: {reason}");
                }
            }
        }
        if mode == AuthMode::Verify && keys.is_empty() && !dev {
            let reason = no_keys(jwks.keys.len());
            tracing::warn!(
                "the external HTTP server refuses all requests that need a token: {reason}"
            );
        }
        Self { mode, compute_id, dev, configured_keys: jwks.keys.len(), algorithm, keys }
    }

    /// Checks one request, at `now` in seconds since 1970. `peer` is none if unknown.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        now: i64,
    ) -> Result<(), ApiError> {
        if self.mode == AuthMode::Off {
            return Ok(());
        }
        if self.needs_no_token(peer) {
            return Ok(());
        }
        let Some(token) = bearer_token(headers) else {
            return Err(self.refuse(StatusCode::BAD_REQUEST, MALFORMED));
        };
        let claims = match self.verify(token, now) {
            Ok(claims) => claims,
            Err(reason) => {
                tracing::info!("authorization token refused: {reason}");
                return Err(self.refuse(StatusCode::UNAUTHORIZED, UNVERIFIED));
            }
        };
        Ok(claims.authorize(self.compute_id.as_deref())?)
    }

    /// Whether it lets in clients of this machine, of which this is one.
    fn needs_no_token(&self, peer: Option<IpAddr>) -> bool {
        let loopback = peer.is_some_and(|peer| peer.to_canonical().is_loopback());
        self.dev && loopback && self.configured_keys == 0
    }

    /// Without keys every token is refused, so the text says how to configure one.
    fn refuse(&self, status: StatusCode, text: &str) -> ApiError {
        if self.keys.is_empty() {
            let text = format!("{text}: {}", no_keys(self.configured_keys));
            return ApiError::new(status, text);
        }
        ApiError::new(status, text)
    }

    /// Checks form, algorithm, signature, type of the claims, and expiry. The keys determine the
    /// algorithm, not the token, so `none` or a MAC made with a public key never pass.
    pub(super) fn verify(&self, token: &str, now: i64) -> Result<Claims, &'static str> {
        let (message, signature) = token.rsplit_once('.').ok_or("it does not have three parts")?;
        let (header, payload) = message.split_once('.').ok_or("it does not have three parts")?;
        let header: TokenHeader = json_part(header).ok_or("its header cannot be read")?;
        if header.alg != self.algorithm {
            return Err("it is signed with another algorithm than the configured keys are for");
        }
        if header.crit.is_some() {
            return Err("its header asks for extensions that are not known");
        }
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_| "its signature is not base64url")?;
        if !self.keys.iter().any(|key| key.accepts(message.as_bytes(), &signature)) {
            return Err("no configured key accepts its signature");
        }
        let claims: Claims = json_part(payload).ok_or("its claims are not of the right types")?;
        if claims.is_expired(now) {
            return Err("it has expired");
        }
        Ok(claims)
    }
}

/// Why every token is refused.
fn no_keys(configured: usize) -> String {
    if configured == 0 {
        "no keys are configured (compute_ctl_config.jwks is empty), so no token can be accepted; \
         configure a key, or use --dev to let in local clients"
            .to_owned()
    } else {
        format!("none of the {configured} keys in compute_ctl_config.jwks is usable")
    }
}

/// The members of a token's header that are used.
#[derive(Debug, Deserialize)]
struct TokenHeader {
    alg: Algorithm,
    /// Extensions that a reader must understand (RFC 7515 §4.1.11).
    crit: Option<serde::de::IgnoredAny>,
}

/// Decodes a part of a token: base64url without padding around a JSON object.
fn json_part<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The token of the one `Authorization` header of scheme `Bearer`.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    // With two headers, a proxy may have checked the other one.
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.trim().split_once([' ', '\t'])?;
    let token = token.trim();
    let well_formed = !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
    (scheme.eq_ignore_ascii_case("bearer") && well_formed).then_some(token)
}

/// Middleware of the protected routes. It comes before body, query and state (03 §4.1).
pub(super) async fn require_token(
    State((authenticator, hosts)): State<(Arc<Authenticator>, Hosts)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    authenticator.check(request.headers(), peer, chrono::Utc::now().timestamp())?;
    if authenticator.needs_no_token(peer) {
        foreign::check(&request, &hosts)?;
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::{ED_KEY, OTHER_ED_KEY, rs256, rsa_jwk, sign, sign_with};
    use axum::http::HeaderValue;
    use serde_json::{Value, json};

    const NOW: i64 = 2_000_000_000;
    const REMOTE: &str = "192.0.2.1";

    fn authenticator(keys: Value) -> Authenticator {
        authenticator_in(keys, false, AuthMode::Verify)
    }

    fn authenticator_in(keys: Value, dev: bool, mode: AuthMode) -> Authenticator {
        let jwks: Jwks = serde_json::from_value(json!({ "keys": keys })).unwrap();
        Authenticator::new(&jwks, Some("c1".to_owned()), dev, mode)
    }

    fn check_headers(
        authenticator: &Authenticator,
        headers: &[&[u8]],
        peer: &str,
    ) -> (u16, String) {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        let peer = peer.parse().ok();
        match authenticator.check(&map, peer, NOW) {
            Ok(()) => (200, String::new()),
            Err(error) => error.parts(),
        }
    }

    fn check(authenticator: &Authenticator, token: &str) -> (u16, String) {
        check_headers(authenticator, &[format!("Bearer {token}").as_bytes()], REMOTE)
    }

    fn ed_set() -> Authenticator {
        authenticator(json!([OTHER_ED_KEY.jwk(), ED_KEY.jwk()]))
    }

    const UNVERIFIED_401: (u16, &str) = (401, UNVERIFIED);

    #[track_caller]
    fn assert_refused(result: (u16, String), expected: (u16, &str)) {
        assert_eq!((result.0, result.1.as_str()), expected);
    }

    #[test]
    fn the_documents_token_table() {
        let authenticator = ed_set();
        let admin = "compute_ctl:admin";
        let missing_id = (403, "missing compute_id in authorization token claims");
        let other_id = (403, "invalid compute ID in authorization token claims");
        let missing_audience = (401, "missing audience in authorization token claims");
        let other_audience = (401, "invalid audience in authorization token claims");
        for (payload, expected) in [
            (json!({"compute_id": "c1"}), (200, "")),
            (
                json!({"compute_id": "c1", "aud": ["other"], "nbf": NOW + 100, "iss": "x"}),
                (200, ""),
            ),
            (json!({"scope": admin, "aud": ["a", "compute"]}), (200, "")),
            (json!({"scope": admin, "aud": ["compute"], "compute_id": "zz"}), (200, "")),
            (json!({}), missing_id),
            (json!({"compute_id": null}), missing_id),
            (json!({"compute_id": "c2"}), other_id),
            (json!({"scope": admin}), missing_audience),
            (json!({"scope": admin, "aud": []}), other_audience),
            (json!({"scope": admin, "aud": ["x"]}), other_audience),
            (json!({"scope": admin, "aud": "compute"}), UNVERIFIED_401),
            (json!({"scope": "something", "compute_id": "c1"}), UNVERIFIED_401),
            (json!({"compute_id": "c1", "exp": NOW - 30}), (200, "")),
            (json!({"compute_id": "c1", "exp": NOW - 3600}), UNVERIFIED_401),
            (json!({"compute_id": "c1", "exp": "2100"}), UNVERIFIED_401),
            (json!({"compute_id": "c1", "exp": null}), UNVERIFIED_401),
        ] {
            let result = check(&authenticator, &sign(&ED_KEY, &payload));
            assert_eq!((result.0, result.1.as_str()), expected, "{payload}");
        }
    }

    #[test]
    fn header_forms() {
        let authenticator = ed_set();
        let token = sign(&ED_KEY, &json!({"compute_id": "c1"}));
        for form in ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer {} "] {
            let value = form.replace("{}", &token);
            let result = check_headers(&authenticator, &[value.as_bytes()], REMOTE);
            assert_eq!(result.0, 200, "{form}");
        }
        let good = format!("Bearer {token}");
        let huge = format!("Bearer {token}{}", "A".repeat(MAX_TOKEN_BYTES));
        let malformed: [&[&[u8]]; 10] = [
            &[],
            &[b"Basic x"],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b""],
            &[token.as_bytes()],
            &[good.as_bytes(), good.as_bytes()],
            &[good.as_bytes(), b"Basic x"],
            &[b"Bearer gr\xc3\xbcn"],
            &[huge.as_bytes()],
        ];
        for values in malformed {
            let result = check_headers(&authenticator, values, REMOTE);
            assert_eq!((result.0, result.1.as_str()), (400, MALFORMED), "{values:?}");
        }
        for token in ["x", "..", ".", "a.b.c", "a.b.c.d", &format!("{token} {token}")] {
            assert_refused(check(&authenticator, token), UNVERIFIED_401);
        }
    }

    #[test]
    fn forged_tokens_are_refused() {
        let authenticator = authenticator(json!([ED_KEY.jwk()]));
        let payload = json!({"compute_id": "c1"});
        let good = sign(&ED_KEY, &payload);
        assert_eq!(check(&authenticator, &good).0, 200);

        let (message, signature) = good.rsplit_once('.').unwrap();
        let (_, encoded_payload) = message.split_once('.').unwrap();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let other_payload = part(json!({"scope": "compute_ctl:admin", "aud": ["compute"]}));
        let (header, _) = message.split_once('.').unwrap();
        let public_key = URL_SAFE_NO_PAD.decode(ED_KEY.x).unwrap();
        let mac_key = jsonwebtoken::EncodingKey::from_secret(&public_key);
        for token in [
            sign(&OTHER_ED_KEY, &payload),
            rs256(&payload),
            // Signed with the public key as if it were the secret of a MAC.
            sign_with(&mac_key, json!({"alg": "HS256"}), Algorithm::HS256, &payload),
            sign_with(&mac_key, json!({"alg": "EdDSA"}), Algorithm::HS256, &payload),
            format!("{}.{encoded_payload}.", part(json!({"alg": "none"}))),
            format!("{}.{encoded_payload}.{signature}", part(json!({"alg": "none"}))),
            format!("{}.{encoded_payload}.{signature}", part(json!({"alg": "None"}))),
            format!("{header}.{other_payload}.{signature}"),
            format!("{message}."),
            format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            format!("{good}="),
            sign_with(
                &ED_KEY.private(),
                json!({"alg": "EdDSA", "crit": ["b64"], "b64": false}),
                Algorithm::EdDSA,
                &payload,
            ),
        ] {
            assert_refused(check(&authenticator, &token), UNVERIFIED_401);
        }
    }

    #[test]
    fn an_rs256_key_switches_the_whole_set() {
        let authenticator = authenticator(json!([ED_KEY.jwk(), rsa_jwk()]));
        let payload = json!({"compute_id": "c1"});
        assert_eq!(check(&authenticator, &rs256(&payload)).0, 200);
        assert_refused(check(&authenticator, &sign(&ED_KEY, &payload)), UNVERIFIED_401);
    }

    #[test]
    fn unusable_keys_are_skipped() {
        let mut short = ED_KEY.jwk();
        short["x"] = json!("AAAA");
        let mut garbage = ED_KEY.jwk();
        garbage["x"] = json!("***");
        let mut no_kid = ED_KEY.jwk();
        no_kid.as_object_mut().unwrap().remove("kid");
        let unusable = [short, garbage, json!({"kty": "oct", "k": "AAAA", "alg": "HS256"})];
        let payload = json!({"compute_id": "c1"});

        let mut keys = unusable.to_vec();
        keys.push(no_kid);
        assert_eq!(check(&authenticator(json!(keys)), &sign(&ED_KEY, &payload)).0, 200);

        let result = check(&authenticator(json!(unusable)), &sign(&ED_KEY, &payload));
        assert_eq!(result.0, 401);
        assert!(result.1.contains("none of the 3 keys"), "{}", result.1);
    }

    #[test]
    fn an_empty_set_locks_everything_but_local_clients_of_dev() {
        let token = format!("Bearer {}", sign(&ED_KEY, &json!({"compute_id": "c1"})));
        let with_token: &[&[u8]] = &[token.as_bytes()];
        let ed_keys = json!([ED_KEY.jwk()]);
        for (keys, dev, peer, open) in [
            (json!([]), false, "127.0.0.1", false),
            (json!([]), false, REMOTE, false),
            (json!([]), true, REMOTE, false),
            (json!([]), true, "::ffff:192.0.2.1", false),
            (json!([]), true, "unknown", false),
            (json!([]), true, "127.0.0.1", true),
            (json!([]), true, "127.9.9.9", true),
            (json!([]), true, "::1", true),
            (json!([]), true, "::ffff:127.0.0.1", true),
            (ed_keys, true, "127.0.0.1", false),
        ] {
            let empty = keys == json!([]);
            let authenticator = authenticator_in(keys, dev, AuthMode::Verify);
            let without = check_headers(&authenticator, &[], peer);
            assert_eq!(without.0, if open { 200 } else { 400 }, "dev {dev}, {peer}");
            if empty && !open {
                let with = check_headers(&authenticator, with_token, peer);
                assert_eq!(with.0, 401);
                for (text, beginning) in [(with.1, UNVERIFIED), (without.1, MALFORMED)] {
                    assert!(text.starts_with(beginning), "{text}");
                    assert!(text.contains("compute_ctl_config.jwks is empty"), "{text}");
                }
            }
        }
    }

    #[test]
    fn switched_off_no_request_needs_a_token() {
        let authenticator = authenticator_in(json!([]), false, AuthMode::Off);
        assert_eq!(check_headers(&authenticator, &[], REMOTE).0, 200);
    }
}
