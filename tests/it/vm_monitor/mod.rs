//! The VM monitor (08): a real compute with `AUTOSCALING`, a folder with the files of a cgroup, and
//! an agent written from the document.

mod absent;
mod agent;
mod cgroup;
mod ending;
mod faults;
mod handshake;
mod machine;
mod messages;
mod modes;
mod port;
mod postgres;
mod takes_over;
