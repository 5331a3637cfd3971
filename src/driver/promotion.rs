//! How far the promotion of the running server has come, across all attempts (07 §5.3).

use crate::node::AcceptedSpec;

/// What attempts to promote have done to the server so far.
///
/// "Overrides" are the settings that an attempt makes with `ALTER SYSTEM`; they outrank
/// `postgresql.conf` until they are dropped.
#[derive(Debug, Clone)]
pub(super) enum Promotion {
    /// `pg_promote()` was never called.
    Never {
        /// An attempt failed and could not drop its overrides. A replica ignores them.
        overrides: bool,
    },
    /// `pg_promote()` was called and its outcome is unknown. The overrides stay: the server may
    /// leave recovery at any moment and must not then take commits that no safekeeper has.
    Unclear {
        /// The spec to run with once the server has left recovery.
        spec: AcceptedSpec,
    },
    /// The server has left recovery since the process started.
    Done {
        /// The overrides have not been dropped yet.
        overrides: bool,
    },
}

impl Promotion {
    /// A server that no attempt has touched.
    pub(super) const UNTOUCHED: Self = Self::Never { overrides: false };

    /// Whether the server has left recovery.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }

    /// Whether `pg_promote()` may be under way.
    pub(super) const fn is_unclear(&self) -> bool {
        matches!(self, Self::Unclear { .. })
    }

    /// Notes that the overrides are being set. After a call of `pg_promote()` they are already set.
    pub(super) const fn set_overrides(&mut self) {
        if let Self::Never { overrides } = self {
            *overrides = true;
        }
    }

    /// Notes whether an attempt that ended before `pg_promote()` has dropped its overrides.
    pub(super) const fn taken_back(&mut self, gone: bool) {
        if let Self::Never { overrides } = self {
            *overrides = !gone;
        }
    }

    /// Notes that an attempt with this spec has failed. If the promotion may still succeed, the
    /// server will run with the newest spec.
    pub(super) fn failed(&mut self, new: AcceptedSpec) {
        if let Self::Unclear { spec } = self {
            *spec = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ComputeParams;
    use crate::spec::{ComputeSpec, ParsedSpec};
    use serde_json::json;

    fn spec(operation: &str) -> AcceptedSpec {
        let spec: ComputeSpec = serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0, "operation_uuid": operation,
            "tenant_id": "88dfefdb53d20e1b4bb1feae80e8020e",
            "timeline_id": "a451a43e3c4f981f67181c3e278d7363",
            "pageserver_connstring": "postgresql://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["127.0.0.1:6500"],
            "cluster": {"roles": [], "databases": []}
        }))
        .unwrap();
        ComputeParams::for_tests().accept(ParsedSpec::try_from(spec).unwrap()).unwrap()
    }

    #[test]
    fn what_each_stage_says() {
        let unclear = Promotion::Unclear { spec: spec("1") };
        let done = Promotion::Done { overrides: true };
        let said = [Promotion::UNTOUCHED, unclear, done].map(|it| (it.is_unclear(), it.is_done()));
        assert_eq!(said, [(false, false), (true, false), (false, true)]);
    }

    #[test]
    fn an_attempt_that_ends_before_the_call_leaves_at_most_overrides() {
        let mut promotion = Promotion::UNTOUCHED;
        promotion.failed(spec("1"));
        assert!(matches!(promotion, Promotion::Never { overrides: false }));
        promotion.set_overrides();
        assert!(matches!(promotion, Promotion::Never { overrides: true }));
        promotion.taken_back(false);
        promotion.failed(spec("2"));
        assert!(matches!(promotion, Promotion::Never { overrides: true }));
        promotion.taken_back(true);
        assert!(matches!(promotion, Promotion::Never { overrides: false }));
    }

    #[test]
    fn an_unclear_promotion_stays_so_with_the_newest_spec() {
        let mut promotion = Promotion::Unclear { spec: spec("1") };
        promotion.set_overrides();
        promotion.taken_back(true);
        promotion.failed(spec("2"));
        let Promotion::Unclear { spec } = promotion else { panic!("{promotion:?}") };
        assert_eq!(spec.operation().as_deref(), Some("2"));
    }

    #[test]
    fn a_later_attempt_changes_nothing_in_a_server_that_was_promoted() {
        let mut promotion = Promotion::Done { overrides: false };
        promotion.set_overrides();
        promotion.failed(spec("1"));
        assert!(matches!(promotion, Promotion::Done { overrides: false }));
    }
}
