//! The log of the program: its forms and what shows it.

mod log_recent;
