//! Tests of the parse, by what a user writes.
