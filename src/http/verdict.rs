//! What the external server would say about a token: for `compute_ctl token verify`.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use thiserror::Error;

use super::auth::{AuthMode, Authenticator, MALFORMED};
use crate::spec::wire::Jwks;

/// What an accepted token opens.
#[derive(Debug, PartialEq)]
pub(crate) struct Opens {
    /// The one compute; `None` for every compute that has the key.
    pub(crate) compute_id: Option<String>,
    /// Seconds since 1970; `None` for a token without end.
    pub(crate) expiry: Option<f64>,
}

/// The answer to a request with a token that is not accepted.
#[derive(Debug, Error)]
#[error("the token is refused with {status}, `{text}`{}", reason.map(|it| format!(": {it}")).unwrap_or_default())]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
    /// What a client does not learn.
    reason: Option<&'static str>,
}

/// Judges a token as the server of the compute would, which has these keys, at `now` in seconds since
/// 1970. Without an id the compute is the one that the token names.
///
/// # Errors
/// The token is refused.
pub(crate) fn verdict(
    jwks: &Jwks,
    compute_id: Option<&str>,
    token: &str,
    now: i64,
) -> Result<Opens, Refusal> {
    let server =
        |id: Option<&str>| Authenticator::new(jwks, id.map(str::to_owned), false, AuthMode::Verify);
    let claims = server(None).verify(token, now);
    let named = claims.as_ref().ok().and_then(|claims| claims.compute_id());
    let Ok(value) = HeaderValue::try_from(format!("Bearer {token}")) else {
        let reason = Some("it has characters that a header cannot have");
        return Err(Refusal {
            status: StatusCode::BAD_REQUEST,
            text: MALFORMED.to_owned(),
            reason,
        });
    };
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    match (server(compute_id.or(named)).check(&headers, None, now), claims) {
        (Ok(()), Ok(claims)) => {
            let compute_id = claims.compute_id().filter(|_| !claims.is_of_admin());
            Ok(Opens { compute_id: compute_id.map(str::to_owned), expiry: claims.expiry() })
        }
        (Err(error), claims) => {
            let (status, text) = error.into_parts();
            Err(Refusal { status, text, reason: claims.err() })
        }
        // Both ask the same keys, so this is not reached.
        (Ok(()), Err(reason)) => Err(Refusal {
            status: StatusCode::UNAUTHORIZED,
            text: MALFORMED.to_owned(),
            reason: Some(reason),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::testing::{ED_KEY, OTHER_ED_KEY, sign};

    const NOW: i64 = 2_000_000_000;

    fn judged(id: Option<&str>, token: &str) -> Result<Opens, String> {
        let jwks = serde_json::from_value(json!({"keys": [ED_KEY.jwk()]})).unwrap();
        verdict(&jwks, id, token, NOW).map_err(|refusal| refusal.to_string())
    }

    fn signed(id: Option<&str>, claims: &Value) -> Result<Opens, String> {
        judged(id, &sign(&ED_KEY, claims))
    }

    #[test]
    fn accepted_tokens_say_what_they_open() {
        let one = json!({"compute_id": "c1", "exp": NOW + 60});
        let opens = Opens { compute_id: Some("c1".to_owned()), expiry: Some(NOW as f64 + 60.0) };
        assert_eq!(signed(None, &one), Ok(opens));
        assert!(signed(Some("c1"), &one).is_ok());
        let all = json!({"scope": "compute_ctl:admin", "aud": ["compute"], "compute_id": "c9"});
        for id in [None, Some("c1")] {
            assert_eq!(signed(id, &all), Ok(Opens { compute_id: None, expiry: None }));
        }
    }

    #[test]
    fn refused_tokens_say_why() {
        for (id, claims, text) in [
            (Some("c2"), json!({"compute_id": "c1"}), "403 Forbidden, `invalid compute ID"),
            (None, json!({}), "403 Forbidden, `missing compute_id"),
            (None, json!({"scope": "compute_ctl:admin"}), "401 Unauthorized, `missing audience"),
            (None, json!({"compute_id": "c1", "exp": NOW - 61}), "token`: it has expired"),
        ] {
            let refusal = signed(id, &claims).unwrap_err();
            assert!(refusal.contains(text), "{refusal}");
        }
        let other = judged(None, &sign(&OTHER_ED_KEY, &json!({"compute_id": "c1"}))).unwrap_err();
        assert!(other.ends_with("no configured key accepts its signature"), "{other}");
        assert!(judged(None, "").unwrap_err().contains("400 Bad Request"));
        assert!(judged(None, "a\nb").unwrap_err().contains("characters"));
    }
}
