//! The bindings that `wit-bindgen` generates from `wit/`, with one module for each interface of each version.
//!
//! Each interface has bindings of its own, because a component must export every interface of its world. So
//! [`export!`](crate::export) can combine any set of hooks. The types that hooks share are the same in both versions, and
//! exist once. The names of the worlds differ, because they become names of macros and of sections.

pub mod types {
    wit_bindgen::generate!({
        path: "../../wit/v0.2.0",
        inline: "package paddock:sdk; world types { import paddock:policy/types@0.2.0; import paddock:policy/log@0.2.0; }",
        additional_derives: [PartialEq, Eq],
        generate_all,
    });
}

macro_rules! exported {
    ($module:ident, $wit:tt, $world:tt, $types:tt, $export:tt) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: $wit,
                inline: $world,
                with: { $types: crate::bindings::types::paddock::policy::types },
                additional_derives: [PartialEq, Eq],
                pub_export_macro: true,
                export_macro_name: $export,
            });
        }
    };
}

pub mod v0_2_0 {
    exported!(
        settings,
        "../../wit/v0.2.0",
        "package paddock:sdk; world settings-only { export paddock:policy/settings@0.2.0; }",
        "paddock:policy/types@0.2.0",
        "export_settings"
    );
    exported!(
        admission,
        "../../wit/v0.2.0",
        "package paddock:sdk; world admission-only { export paddock:policy/admission@0.2.0; }",
        "paddock:policy/types@0.2.0",
        "export_admission"
    );
    exported!(
        runtime_class,
        "../../wit/v0.2.0",
        "package paddock:sdk; world runtime-class-only { export paddock:policy/runtime-class@0.2.0; }",
        "paddock:policy/types@0.2.0",
        "export_runtime_class"
    );
    exported!(
        idle,
        "../../wit/v0.2.0",
        "package paddock:sdk; world idle-only { export paddock:policy/idle@0.2.0; }",
        "paddock:policy/types@0.2.0",
        "export_idle"
    );
    exported!(
        pool_size,
        "../../wit/v0.2.0",
        "package paddock:sdk; world pool-size-only { export paddock:policy/pool-size@0.2.0; }",
        "paddock:policy/types@0.2.0",
        "export_pool_size"
    );
}

pub mod v0_1_0 {
    pub mod log {
        wit_bindgen::generate!({
            path: "../../wit/v0.1.0",
            inline: "package paddock:sdk; world v010-log { import paddock:policy/log@0.1.0; }",
            generate_all,
        });
    }

    exported!(
        settings,
        "../../wit/v0.1.0",
        "package paddock:sdk; world v010-settings-only { export paddock:policy/settings@0.1.0; }",
        "paddock:policy/types@0.1.0",
        "export_settings"
    );
    exported!(
        admission,
        "../../wit/v0.1.0",
        "package paddock:sdk; world v010-admission-only { export paddock:policy/admission@0.1.0; }",
        "paddock:policy/types@0.1.0",
        "export_admission"
    );
    exported!(
        runtime_class,
        "../../wit/v0.1.0",
        "package paddock:sdk; world v010-runtime-class-only { export paddock:policy/runtime-class@0.1.0; }",
        "paddock:policy/types@0.1.0",
        "export_runtime_class"
    );
    exported!(
        idle,
        "../../wit/v0.1.0",
        "package paddock:sdk; world v010-idle-only { export paddock:policy/idle@0.1.0; }",
        "paddock:policy/types@0.1.0",
        "export_idle"
    );
    exported!(
        pool_size,
        "../../wit/v0.1.0",
        "package paddock:sdk; world v010-pool-size-only { export paddock:policy/pool-size@0.1.0; }",
        "paddock:policy/types@0.1.0",
        "export_pool_size"
    );
}
