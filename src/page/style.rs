//! The style of the page, and the policy that allows nothing else.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::PreEscaped;

/// The only style; [`content_security_policy`] has its digest.
const STYLE: &str = include_str!("style.css");

/// Content of the element `style`. Ours, so it is not escaped.
pub(super) const fn element() -> PreEscaped<&'static str> {
    PreEscaped(STYLE)
}

/// Nothing but our own style: no script, no picture, no font, no frame, no form, no other server.
pub(crate) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
        let digest = STANDARD.encode(digest);
        format!(
            "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        )
    });
    &POLICY
}
