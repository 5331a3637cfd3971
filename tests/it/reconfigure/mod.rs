//! A running compute gets another spec, another role, or other certificates.

mod configure;
mod configure_refused;
mod control_plane;
mod log_texts;
mod promotion;
mod promotion_ends;
mod promotion_failpoints;
mod promotion_fails;
mod refresh;
mod refresh_rest;
mod refused;
mod sessions;
mod takes_back;
mod tls_inactive;
mod tls_late;
mod tls_reconfigure;
mod tls_refused;
mod tls_renewal;
mod tls_start;
mod together;
