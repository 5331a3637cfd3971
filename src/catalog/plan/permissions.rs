//! Facts that a plan uses inside every database.

use std::sync::Arc;

/// Owners of a schema `public` that was never given to another role.
pub(super) const ADMINS: [&str; 2] = ["cloud_admin", "zenith_admin"];

/// Facts that are the same for all databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// The role that gets the default privileges.
    pub privileged_role: String,
    /// The role whose future objects they apply to.
    pub session_role: Arc<str>,
    /// Major version of the server.
    pub major: u32,
    /// Whether the role `web_access` may create objects in `public`.
    pub web_access: bool,
}
