//! A plugin of the hook `pool-size` that imports an interface that the host does not have.

#![cfg(target_family = "wasm")]
#![expect(missing_docs, reason = "generated bindings")]

use paddock_plugin_sdk::pool_size::{Answer, Plugin, Question};
use paddock_plugin_sdk::settings::NoSettings;

wit_bindgen::generate!({
    inline: r#"
        package test:guest;
        world guest {
            import example:net/fetch@1.0.0;
        }
        package example:net@1.0.0 {
            interface fetch {
                get: func(url: string) -> string;
            }
        }
    "#,
    generate_all,
});

struct Asking;

impl Plugin for Asking {
    type Settings = NoSettings;

    fn decide(question: &Question, _: &NoSettings) -> Result<Answer, String> {
        let reason = example::net::fetch::get("http://example.invalid/");
        Ok(Answer { desired: question.min, next_check: None, reason, state: None })
    }
}

paddock_plugin_sdk::export!(Asking: pool_size);
