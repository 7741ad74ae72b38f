//! pool-by-demand
