//! The story of a sandbox, told on a real control plane.
fn main() {}
