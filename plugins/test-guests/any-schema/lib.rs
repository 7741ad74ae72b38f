//! A plugin whose schema of settings a test writes into the component: over the spaces after [`MARK`].
//!
//! Some words are no schema: `spin` never returns, `panic` traps, `large` returns more than a schema may have, and `huge`
//! more than any call may return.

#![cfg(target_family = "wasm")]
#![expect(missing_docs, reason = "generated bindings")]
#![expect(unsafe_code, reason = "generated bindings")]

use std::hint::black_box;

wit_bindgen::generate!({ path: "../../../wit/v0.2.0", world: "pool-size-plugin", generate_all });

use exports::paddock::policy::{pool_size, settings};
use paddock::policy::types::Hook;

/// The text in front of the schema.
const MARK: &[u8] = b"the schema of the settings:";
const ROOM: usize = 4096;

static SCHEMA: [u8; ROOM] = {
    let mut text = [b' '; ROOM];
    let (mark, _) = text.split_at_mut(MARK.len());
    mark.copy_from_slice(MARK);
    text
};

struct Example;

impl settings::Guest for Example {
    fn schema(_: Hook) -> String {
        let text = black_box(&SCHEMA).get(MARK.len()..).map(String::from_utf8_lossy).unwrap_or_default();
        match text.trim() {
            "spin" => loop {
                black_box(0);
            },
            "panic" => panics(),
            "large" => " ".repeat(70 << 10),
            "huge" => " ".repeat(2 << 20),
            schema => schema.to_owned(),
        }
    }

    fn validate_settings(_: Hook, _: String) -> Result<(), String> {
        Ok(())
    }
}

#[expect(clippy::panic, reason = "that is the failure")]
fn panics() -> ! {
    panic!("as ordered")
}

impl pool_size::Guest for Example {
    fn decide(_: pool_size::Question, _: String) -> Result<pool_size::Answer, String> {
        Err("a test of schemas asks no questions".into())
    }
}

export!(Example);
