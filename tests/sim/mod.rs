//! The simulated cluster.

pub(crate) mod answers;
pub(crate) mod api;
pub(crate) mod operator;

use crate::framework::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![]
}
