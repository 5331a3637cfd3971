//! The VM monitor (08): resizes the local file cache of Postgres with the memory of the virtual
//! machine, and asks its autoscaler for more. Only with `AUTOSCALING` in the environment.
//!
//! ```text
//! server ─► connection ─► protocol (text ↔ messages)
//!               │ └────── policy (when to ask, when to grant) ◄── cgroup (samples)
//!               └──────► scaler ─► file_cache ─► SQL
//! ```

#[cfg_attr(not(test), expect(dead_code, reason = "the parts that act on it follow"))]
mod policy;
#[cfg_attr(not(test), expect(dead_code, reason = "the parts that act on it follow"))]
mod protocol;
