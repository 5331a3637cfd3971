//! What a plan takes as given inside every database.

use std::sync::Arc;

/// Owners that the schema `public` has because nobody has given it to anybody.
pub(super) const ADMINS: [&str; 2] = ["cloud_admin", "zenith_admin"];

/// What all databases have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Gets the default privileges.
    pub privileged_role: String,
    /// Whose objects they are about.
    pub session_role: Arc<str>,
    /// Major version of the server.
    pub major: u32,
    /// Whether the role `web_access` may create objects in `public`.
    pub web_access: bool,
}
