//! Both servers over real sockets, with a real node and a fake driver.

mod access_log;
mod bed;
mod counts;
mod durations;
mod errors;
mod limits;
mod openapi;
mod page;
mod servers;
