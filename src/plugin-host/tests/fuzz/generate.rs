//! Generates modules and components: most of them are well formed, and some have parts of absurd size.

use fastrand::Rng;
use paddock_plugin_host::componentize;
use wasm_encoder::{
    CodeSection, Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentTypeRef,
    ComponentTypeSection, ComponentValType, ConstExpr, CustomSection, DataSection, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, GlobalType, ImportSection, InstanceSection, InstanceType,
    MemorySection, MemoryType, Module, ModuleArg, ModuleSection, NestedComponentSection, PrimitiveValType, RawSection,
    RefType, StartSection, TableSection, TableType, TypeSection, ValType,
};

/// Names of imports and exports. Some are those of the package.
const NAMES: [&str; 12] = [
    "paddock:policy/settings@0.1.0",
    "paddock:policy/pool-size@0.1.0",
    "paddock:policy/idle@0.1.0",
    "paddock:policy/log@0.1.0",
    "paddock:policy/types@0.1.0",
    "paddock:policy/pool-size@0.2.0",
    "paddock:policy/pool-size",
    "paddock:policy/nothing@0.1.0",
    "wasi:cli/run@0.2.0",
    "example:net/fetch@1.0.0",
    "decide",
    "cabi_realloc",
];

fn name(random: &mut Rng) -> &'static str {
    NAMES[random.usize(0..NAMES.len())]
}

/// A number that is mostly small.
fn number(random: &mut Rng) -> u64 {
    match random.u32(0..12) {
        0 => u64::from(random.u32(..)),
        1 => 1 << random.u32(0..48),
        _ => random.u64(0..6),
    }
}

/// Bytes in place of a component: a module, a component, or a module that was made a component.
pub(crate) fn bytes(random: &mut Rng) -> Vec<u8> {
    match random.u32(0..10) {
        8 | 9 => named(random).finish(),
        0 => {
            let head: &[u8] = if random.bool() { b"\0asm\x0d\0\x01\0" } else { b"\0asm\x01\0\0\0" };
            let rest: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
            [head, &rest].concat()
        }
        1 => module(random).finish(),
        2 | 3 => {
            let module = module(random).finish();
            // Most modules have no world, and become components without a hook.
            componentize(&module).unwrap_or(module)
        }
        4 => nested(random).finish(),
        _ => component(random, 3).finish(),
    }
}

/// Components inside of each other, deeper than anybody would write.
fn nested(random: &mut Rng) -> Component {
    (0..random.u32(1..200)).fold(Component::new(), |inner, _| {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        outer
    })
}

/// A component whose interfaces have the names and versions of the package, or others, and functions of the wrong type. It
/// exports what it imports.
fn named(random: &mut Rng) -> Component {
    let version = match random.u32(0..6) {
        0 => String::new(),
        1 => "@0.2.0".to_owned(),
        2 => "@9.9.9".to_owned(),
        // A version may be as long as a name.
        3 => format!("@0.1.0-{}", "a".repeat(random.usize(1..90_000))),
        _ => "@0.1.0".to_owned(),
    };
    let interface = |random: &mut Rng| {
        let names = ["settings", "admission", "runtime-class", "idle", "pool-size", "log", "types", "nothing"];
        let package = if random.u32(0..10) == 0 { "example:other" } else { "paddock:policy" };
        let version = if random.u32(0..10) == 0 { "@0.1.0" } else { &version };
        format!("{package}/{}{version}", names[random.usize(0..names.len())])
    };
    let mut instance = InstanceType::new();
    let no_parameters: [(&str, ComponentValType); 0] = [];
    instance.ty().function().params(no_parameters).result(None);
    let function = ["decide", "validate-settings", "write"][random.usize(0..3)];
    instance.export(function, ComponentTypeRef::Func(0));
    let mut types = ComponentTypeSection::new();
    types.instance(&instance);
    let mut imports = ComponentImportSection::new();
    imports.import(interface(random).as_str(), ComponentTypeRef::Instance(0));
    let mut exports = ComponentExportSection::new();
    for name in (0..random.usize(0..3)).map(|_| interface(random)).chain([format!("paddock:policy/settings{version}")])
    {
        exports.export(name.as_str(), ComponentExportKind::Instance, 0, None);
    }
    let mut component = Component::new();
    component.section(&types).section(&imports).section(&exports);
    component
}

fn memory(random: &mut Rng) -> MemoryType {
    let minimum = number(random);
    MemoryType {
        minimum,
        maximum: random.bool().then(|| minimum.saturating_add(number(random))),
        memory64: random.u32(0..8) == 0,
        shared: random.u32(0..12) == 0,
        page_size_log2: None,
    }
}

fn table(random: &mut Rng) -> TableType {
    let minimum = number(random);
    TableType {
        element_type: if random.bool() { RefType::FUNCREF } else { RefType::EXTERNREF },
        table64: random.u32(0..12) == 0,
        minimum,
        maximum: random.bool().then(|| minimum.saturating_add(number(random))),
        shared: false,
    }
}

fn value_type(random: &mut Rng) -> ValType {
    [ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128, ValType::FUNCREF][random.usize(0..6)]
}

fn module(random: &mut Rng) -> Module {
    let mut module = Module::new();
    let mut types = TypeSection::new();
    let signatures = random.u32(1..4);
    for _ in 0..signatures {
        let many = if random.u32(0..20) == 0 { 1001 } else { 4 };
        let params: Vec<ValType> = (0..random.usize(0..many)).map(|_| value_type(random)).collect();
        let results: Vec<ValType> = (0..random.usize(0..3)).map(|_| value_type(random)).collect();
        types.ty().function(params, results);
    }
    // The type of functions that are called at the start.
    types.ty().function([], []);
    module.section(&types);
    let imported = random.u32(0..3) / 2;
    if imported > 0 {
        let mut imports = ImportSection::new();
        imports.import(name(random), name(random), EntityType::Function(random.u32(0..=signatures)));
        module.section(&imports);
    }
    let functions = if random.u32(0..30) == 0 { 2000 } else { random.u32(0..6) };
    let mut section = FunctionSection::new();
    (0..functions).for_each(|_| {
        section.function(signatures);
    });
    module.section(&section);
    if random.bool() {
        let mut tables = TableSection::new();
        (0..random.usize(1..24)).for_each(|_| {
            tables.table(table(random));
        });
        module.section(&tables);
    }
    let memories = random.u32(0..6);
    let mut section = MemorySection::new();
    (0..memories).for_each(|_| {
        section.memory(memory(random));
    });
    module.section(&section);
    if random.bool() {
        let mut globals = GlobalSection::new();
        let global = GlobalType { val_type: ValType::I32, mutable: random.bool(), shared: false };
        globals.global(global, &ConstExpr::i32_const(random.i32(..)));
        module.section(&globals);
    }
    let mut exports = ExportSection::new();
    for function in 0..functions.min(3) {
        exports.export(&format!("{}{function}", name(random)), ExportKind::Func, imported + function);
    }
    if memories > 0 {
        exports.export("memory", ExportKind::Memory, 0);
    }
    module.section(&exports);
    if functions > 0 && random.bool() {
        module.section(&StartSection { function_index: imported + random.u32(0..functions) });
    }
    let mut code = CodeSection::new();
    for _ in 0..functions {
        code.function(&function(random, imported + functions));
    }
    module.section(&code);
    if memories > 0 && random.bool() {
        let mut data = DataSection::new();
        let bytes: Vec<u8> = (0..random.usize(0..100)).map(|_| random.u8(..)).collect();
        data.active(0, &ConstExpr::i32_const(random.i32(..)), bytes);
        module.section(&data);
    }
    if random.u32(0..6) == 0 {
        let junk: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
        module.section(&CustomSection { name: "component-type:junk".into(), data: junk.into() });
    }
    module
}

/// A function without parameters that works, loops for ever, recurses, traps, wants memory, or is not valid.
fn function(random: &mut Rng, functions: u32) -> Function {
    let locals = if random.u32(0..20) == 0 { random.u32(..) } else { random.u32(0..4) };
    let mut function = Function::new([(locals, value_type(random))]);
    let mut code = function.instructions();
    for _ in 0..random.usize(0..6) {
        match random.u32(0..9) {
            0 => code.loop_(wasm_encoder::BlockType::Empty).br(0).end(),
            1 => code.call(random.u32(0..functions + 1)),
            2 => code.i32_const(random.i32(..)).memory_grow(0).drop(),
            3 => code
                .i32_const(random.i32(..))
                .i32_load(wasm_encoder::MemArg { offset: 0, align: 0, memory_index: 0 })
                .drop(),
            4 => code.unreachable(),
            5 => code.i32_const(1).i32_const(0).i32_div_s().drop(),
            6 => {
                let deep = random.usize(1..300);
                (0..deep).for_each(|_| {
                    code.block(wasm_encoder::BlockType::Empty);
                });
                (0..deep).for_each(|_| {
                    code.end();
                });
                &mut code
            }
            7 => code.drop(),
            _ => code.nop(),
        };
    }
    code.end();
    function
}

fn component(random: &mut Rng, depth: u32) -> Component {
    let mut component = Component::new();
    let (mut modules, mut types, mut instances) = (0, 0, 0);
    for _ in 0..random.usize(1..8) {
        match random.u32(0..9) {
            0 | 1 => {
                component.section(&ModuleSection(&module(random)));
                modules += 1;
            }
            2 => {
                let mut section = InstanceSection::new();
                let arguments: Vec<(&str, ModuleArg)> =
                    (0..random.usize(0..2)).map(|_| (name(random), ModuleArg::Instance(random.u32(0..3)))).collect();
                section.instantiate(random.u32(0..modules + 1), arguments);
                component.section(&section);
            }
            3 => {
                let many = if random.u32(0..10) == 0 { 3000 } else { 4 };
                let mut section = ComponentTypeSection::new();
                for _ in 0..random.usize(1..many) {
                    // Each type contains the one before it.
                    match random.u32(0..4) {
                        0 => section.defined_type().primitive(PrimitiveValType::String),
                        1 if types > 0 => section.defined_type().list(ComponentValType::Type(types - 1)),
                        2 if types > 0 => {
                            let field = ComponentValType::Type(types - 1);
                            section.defined_type().tuple([field, field]);
                        }
                        _ => section.ty().instance(&InstanceType::new()),
                    }
                    types += 1;
                }
                component.section(&section);
            }
            4 => {
                let mut section = ComponentImportSection::new();
                section.import(name(random), ComponentTypeRef::Instance(random.u32(0..types + 1)));
                component.section(&section);
                instances += 1;
            }
            5 | 6 => {
                let kind = [ComponentExportKind::Instance, ComponentExportKind::Func, ComponentExportKind::Module];
                let mut section = ComponentExportSection::new();
                section.export(name(random), kind[random.usize(0..3)], random.u32(0..instances + 1), None);
                component.section(&section);
            }
            7 if depth > 0 => {
                let inner = self::component(random, depth - 1);
                component.section(&NestedComponentSection(&inner));
            }
            _ => {
                let data: Vec<u8> = (0..random.usize(0..60)).map(|_| random.u8(..)).collect();
                component.section(&RawSection { id: random.u8(0..16), data: &data });
            }
        }
    }
    component
}
