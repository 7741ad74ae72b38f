//! A guest that asks for an import that nobody grants.

#![cfg(target_family = "wasm")]
#![expect(missing_docs, reason = "generated bindings")]
#![expect(unsafe_code, reason = "generated bindings")]

wit_bindgen::generate!({
    inline: r#"
        package test:guest;
        world guest {
            import example:net/fetch@1.0.0;
            export settings-like: func() -> string;
        }
        package example:net@1.0.0 {
            interface fetch {
                get: func(url: string) -> string;
            }
        }
    "#,
    generate_all,
});

struct Example;

impl Guest for Example {
    fn settings_like() -> String {
        example::net::fetch::get("http://example.invalid/")
    }
}

export!(Example);
