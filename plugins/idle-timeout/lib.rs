//! idle-timeout
