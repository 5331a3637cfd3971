//! Both servers over real sockets. The driver pretends, the node is real.

mod bed;
mod limits;
mod openapi;
mod servers;
