//! A plugin of a WIT version that the host does not support.

#![cfg(target_family = "wasm")]
#![expect(missing_docs, reason = "generated bindings")]
#![expect(unsafe_code, reason = "generated bindings")]

wit_bindgen::generate!({
    inline: r#"
        package paddock:policy@0.9.0;
        interface pool-size {
            decide: func(question: string, settings: string) -> result<u32, string>;
        }
        world guest {
            export pool-size;
        }
    "#,
    generate_all,
});

struct Example;

impl exports::paddock::policy::pool_size::Guest for Example {
    fn decide(_: String, _: String) -> Result<u32, String> {
        Ok(1)
    }
}

export!(Example);
