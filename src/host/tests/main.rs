//! Behaviours of the host with real guests.
fn main() {}
