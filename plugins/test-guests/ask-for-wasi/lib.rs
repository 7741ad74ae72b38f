//! A plugin of the hook `pool-size` that imports the clock of WASI, which the host does not have.

#![cfg(target_family = "wasm")]
#![expect(missing_docs, reason = "generated bindings")]

use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use paddock_plugin_sdk::settings::NoSettings;

wit_bindgen::generate!({
    inline: r#"
        package test:guest;
        world guest {
            import wasi:clocks/wall-clock@0.2.0;
        }
        package wasi:clocks@0.2.0 {
            interface wall-clock {
                record datetime { seconds: u64, nanoseconds: u32 }
                now: func() -> datetime;
            }
        }
    "#,
    generate_all,
});

struct Asking;

impl Plugin for Asking {
    type Settings = NoSettings;

    fn decide(question: &Question, _: &NoSettings) -> Result<Answer, String> {
        let reason = format!("it is {}", wasi::clocks::wall_clock::now().seconds);
        Ok(Answer { desired: question.min, next_check: None, reason, state: None })
    }
}

paddock_plugin_sdk::export!(Asking: pool_size);
