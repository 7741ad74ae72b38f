//! Mutants.
fn main() {}
