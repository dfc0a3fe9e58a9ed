//! The `tealight` command.
fn main() {}
