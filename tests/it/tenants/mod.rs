//! What a tenant can make or name must not harm the compute, and what is secret stays so.

mod names_in_other_encodings;
mod secrets;
mod traps_any;
mod traps_names;
mod traps_objects;
mod traps_scripts;
