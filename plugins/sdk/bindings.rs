//! The bindings that `wit-bindgen` generates from `wit/v0.1.0`, in one module for each interface.
//!
//! Each interface has bindings of its own, because a component must export every interface of its world. So
//! [`export!`](crate::export) can combine any set of hooks.

pub mod types {
    wit_bindgen::generate!({
        path: "../../wit/v0.1.0",
        inline: "package paddock:sdk; world types { import paddock:policy/types@0.1.0; import paddock:policy/log@0.1.0; }",
        additional_derives: [PartialEq, Eq],
        generate_all,
    });
}

pub mod settings {
    wit_bindgen::generate!({
        path: "../../wit/v0.1.0",
        inline: "package paddock:sdk; world settings-only { export paddock:policy/settings@0.1.0; }",
        with: { "paddock:policy/types@0.1.0": crate::bindings::types::paddock::policy::types },
        pub_export_macro: true,
        export_macro_name: "export_settings",
    });
}

pub mod admission {
    wit_bindgen::generate!({
        path: "../../wit/v0.1.0",
        inline: "package paddock:sdk; world admission-only { export paddock:policy/admission@0.1.0; }",
        with: { "paddock:policy/types@0.1.0": crate::bindings::types::paddock::policy::types },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_admission",
    });
}

pub mod runtime_class {
    wit_bindgen::generate!({
        path: "../../wit/v0.1.0",
        inline: "package paddock:sdk; world runtime-class-only { export paddock:policy/runtime-class@0.1.0; }",
        with: { "paddock:policy/types@0.1.0": crate::bindings::types::paddock::policy::types },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_runtime_class",
    });
}

pub mod idle {
    wit_bindgen::generate!({
        path: "../../wit/v0.1.0",
        inline: "package paddock:sdk; world idle-only { export paddock:policy/idle@0.1.0; }",
        with: { "paddock:policy/types@0.1.0": crate::bindings::types::paddock::policy::types },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_idle",
    });
}

pub mod pool_size {
    wit_bindgen::generate!({
        path: "../../wit/v0.1.0",
        inline: "package paddock:sdk; world pool-size-only { export paddock:policy/pool-size@0.1.0; }",
        with: { "paddock:policy/types@0.1.0": crate::bindings::types::paddock::policy::types },
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_pool_size",
    });
}
