//! require-isolation
