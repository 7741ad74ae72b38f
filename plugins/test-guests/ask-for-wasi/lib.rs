//! A guest of our version that also asks WASI for the time: not granted.

#![cfg(target_family = "wasm")]
#![expect(missing_docs, reason = "generated bindings")]
#![expect(unsafe_code, reason = "generated bindings")]

wit_bindgen::generate!({
    inline: r#"
        package test:guest;
        world guest {
            import wasi:clocks/wall-clock@0.2.0;
            export settings-like: func() -> u64;
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

struct Example;

impl Guest for Example {
    fn settings_like() -> u64 {
        wasi::clocks::wall_clock::now().seconds
    }
}

export!(Example);
