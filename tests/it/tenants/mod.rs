//! Objects and names of a tenant must not harm the compute, and secrets stay secret.

mod names_in_other_encodings;
mod secrets;
mod shown;
mod traps_any;
mod traps_names;
mod traps_objects;
mod traps_scripts;
