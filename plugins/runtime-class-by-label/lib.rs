//! runtime-class-by-label
