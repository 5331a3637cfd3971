//! Both servers over real sockets, with a real node and a fake driver.

mod bed;
mod limits;
mod openapi;
mod servers;
