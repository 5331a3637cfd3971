//! What the claims of a verified token allow (03 §4.2 nos. 3 to 7). Pure code without keys or
//! requests: the caller has checked the signature.

use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::error::ApiError;

/// How long a token passes after its expiry, because clocks differ.
const LEEWAY_SECONDS: f64 = 60.0;

/// Scope of the tokens of administrators.
const ADMIN_SCOPE: &str = "compute_ctl:admin";

/// Audience of the tokens of administrators.
const ADMIN_AUDIENCE: &str = "compute";

/// The claims in use; all others are ignored. A claim of another type makes the whole token
/// invalid, also an `exp` that is not a number (03 W6).
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    compute_id: Option<String>,
    scope: Option<Scope>,
    aud: Option<Vec<String>>,
    /// Seconds since 1970, perhaps with a fraction. Null is refused like any other wrong type.
    #[serde(default, deserialize_with = "number")]
    exp: Option<f64>,
}

/// A text only: the map of one variant, which serde also reads, would be another type.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum Scope {
    Admin,
}

impl TryFrom<String> for Scope {
    type Error = &'static str;

    fn try_from(scope: String) -> Result<Self, Self::Error> {
        if scope == ADMIN_SCOPE { Ok(Self::Admin) } else { Err("unknown scope") }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(deserializer).map(Some)
}

/// Why this compute refuses a genuine token.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimsError {
    /// Administrator's token without audience.
    #[error("missing audience in authorization token claims")]
    AudienceMissing,
    /// Administrator's token for something else.
    #[error("invalid audience in authorization token claims")]
    AudienceInvalid,
    /// Token without scope that names no compute.
    #[error("missing compute_id in authorization token claims")]
    ComputeIdMissing,
    /// Token of another compute.
    #[error("invalid compute ID in authorization token claims")]
    ComputeIdInvalid,
}

impl From<ClaimsError> for ApiError {
    fn from(error: ClaimsError) -> Self {
        let status = match error {
            ClaimsError::AudienceMissing | ClaimsError::AudienceInvalid => StatusCode::UNAUTHORIZED,
            ClaimsError::ComputeIdMissing | ClaimsError::ComputeIdInvalid => StatusCode::FORBIDDEN,
        };
        Self::new(status, error.to_string())
    }
}

impl Claims {
    /// The compute that the token names.
    pub(super) fn compute_id(&self) -> Option<&str> {
        self.compute_id.as_deref()
    }

    /// Whether it is a token for every compute.
    pub(super) fn is_of_admin(&self) -> bool {
        self.scope.is_some()
    }

    /// Its end, in seconds since 1970.
    pub(super) fn expiry(&self) -> Option<f64> {
        self.exp
    }

    /// Whether the token has expired, at `now` in seconds since 1970.
    pub(super) fn is_expired(&self, now: i64) -> bool {
        self.exp.is_some_and(|exp| exp < now as f64 - LEEWAY_SECONDS)
    }

    /// Whether the token is valid for the compute with this id.
    pub(super) fn authorize(&self, own_compute_id: Option<&str>) -> Result<(), ClaimsError> {
        if let Some(Scope::Admin) = self.scope {
            let audience = self.aud.as_deref().ok_or(ClaimsError::AudienceMissing)?;
            if !audience.iter().any(|audience| audience == ADMIN_AUDIENCE) {
                return Err(ClaimsError::AudienceInvalid);
            }
            return Ok(());
        }
        let compute_id = self.compute_id.as_deref().ok_or(ClaimsError::ComputeIdMissing)?;
        if own_compute_id != Some(compute_id) {
            return Err(ClaimsError::ComputeIdInvalid);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: i64 = 2_000_000_000;

    fn claims(payload: &Value) -> Result<Claims, serde_json::Error> {
        serde_json::from_slice(payload.to_string().as_bytes())
    }

    fn authorize(payload: Value) -> Result<(), ClaimsError> {
        claims(&payload).unwrap().authorize(Some("c1"))
    }

    #[test]
    fn acceptance_table() {
        let admin = "compute_ctl:admin";
        for payload in [
            json!({"compute_id": "c1"}),
            json!({"compute_id": "c1", "scope": null, "aud": null}),
            json!({"compute_id": "c1", "aud": ["other"], "nbf": NOW + 100, "iss": "x"}),
            json!({"scope": admin, "aud": ["a", "compute"]}),
            json!({"scope": admin, "aud": ["compute"], "compute_id": "zz"}),
            json!({"scope": admin, "aud": ["compute"], "compute_id": null}),
        ] {
            assert_eq!(authorize(payload.clone()), Ok(()), "{payload}");
        }
        for (payload, error) in [
            (json!({}), ClaimsError::ComputeIdMissing),
            (json!({"compute_id": null}), ClaimsError::ComputeIdMissing),
            (json!({"compute_id": "c2"}), ClaimsError::ComputeIdInvalid),
            (json!({"compute_id": "c1 "}), ClaimsError::ComputeIdInvalid),
            (json!({"compute_id": ""}), ClaimsError::ComputeIdInvalid),
            (json!({"compute_id": "c2", "aud": ["compute"]}), ClaimsError::ComputeIdInvalid),
            (json!({"scope": admin}), ClaimsError::AudienceMissing),
            (json!({"scope": admin, "compute_id": "c1"}), ClaimsError::AudienceMissing),
            (json!({"scope": admin, "aud": null}), ClaimsError::AudienceMissing),
            (json!({"scope": admin, "aud": []}), ClaimsError::AudienceInvalid),
            (json!({"scope": admin, "aud": ["x", "Compute"]}), ClaimsError::AudienceInvalid),
        ] {
            assert_eq!(authorize(payload.clone()), Err(error), "{payload}");
        }
    }

    #[test]
    fn a_compute_without_id_is_opened_by_administrators_only() {
        let own = claims(&json!({"compute_id": "c1"})).unwrap();
        assert_eq!(own.authorize(None), Err(ClaimsError::ComputeIdInvalid));
        let admin = claims(&json!({"scope": "compute_ctl:admin", "aud": ["compute"]})).unwrap();
        assert_eq!(admin.authorize(None), Ok(()));
    }

    #[test]
    fn claims_of_the_wrong_type_spoil_the_token() {
        for payload in [
            json!({"scope": "compute_ctl:admin", "aud": "compute"}),
            json!({"compute_id": "c1", "aud": "compute"}),
            json!({"compute_id": "c1", "aud": [1]}),
            json!({"compute_id": "c1", "scope": "something"}),
            json!({"compute_id": "c1", "scope": ""}),
            json!({"compute_id": "c1", "scope": ["compute_ctl:admin"]}),
            json!({"scope": {"compute_ctl:admin": null}, "aud": ["compute"]}),
            json!({"compute_id": 1}),
            json!({"compute_id": "c1", "exp": null}),
            json!({"compute_id": "c1", "exp": "never"}),
            json!({"compute_id": "c1", "exp": "2000000100"}),
            json!({"compute_id": "c1", "exp": true}),
            json!({"compute_id": "c1", "exp": [NOW + 100]}),
            json!({"compute_id": "c1", "exp": {"a": 1}}),
            json!("c1"),
            json!(null),
        ] {
            assert!(claims(&payload).is_err(), "{payload}");
        }
        let twice = br#"{"compute_id":"c2","compute_id":"c1"}"#;
        assert!(serde_json::from_slice::<Claims>(twice).is_err());
    }

    #[test]
    fn expiry() {
        let expired = |exp: Value| claims(&json!({ "exp": exp })).unwrap().is_expired(NOW);
        assert!(!claims(&json!({})).unwrap().is_expired(NOW));
        assert!(!expired(json!(NOW + 3600)));
        assert!(!expired(json!(NOW - 30)));
        assert!(!expired(json!(NOW - 60)));
        assert!(expired(json!(NOW - 61)));
        assert!(expired(json!(NOW - 3600)));
        assert!(!expired(json!(2_000_000_000.5)));
        assert!(!expired(json!(1e30)));
        assert!(!expired(json!(u64::MAX)));
        assert!(expired(json!(-1)));
        assert!(expired(json!(0)));
    }

    proptest! {
        /// A token without the scope must have the compute's own id, whatever else it says.
        #[test]
        fn no_other_id_opens(id in ".{0,12}", aud in proptest::collection::vec(".{0,8}", 0..3)) {
            let claims = claims(&json!({"compute_id": id.clone(), "aud": aud})).unwrap();
            prop_assert_eq!(claims.authorize(Some("c1")).is_ok(), id == "c1");
        }
    }
}
