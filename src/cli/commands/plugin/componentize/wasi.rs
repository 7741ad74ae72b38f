//! Modules without WASI. The compilers of some languages import WASI (preview 1) even for a plugin that needs nothing of
//! it, because their runtimes start with it. The functions here take its place, as they would be on a machine that has
//! nothing: no arguments, no variables, no files, a clock that stands still, and zeros for random numbers. The output is
//! discarded, and the end of the program is a trap.

use std::convert::Infallible;

use anyhow::{Context as _, anyhow};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, Function, FunctionSection, ImportSection, InstructionSink, MemArg, Module, ValType};
use wasmparser::{CodeSectionReader, FunctionSectionReader, ImportSectionReader, Payload, TypeRef};

/// The module that the functions of WASI preview 1 are imported from.
const WASI: &str = "wasi_snapshot_preview1";
/// The result of a successful function.
const SUCCESS: i32 = 0;
/// The error of a file that is not open.
const BAD_FILE: i32 = 8;

/// Replaces the imports of WASI in a core module.
pub(super) fn stub(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stubs = Stubs::of(module)?;
    let mut output = Module::new();
    let parsed = stubs.parse_core_module(&mut output, wasmparser::Parser::new(0), module);
    parsed.map_err(|error| anyhow!("{error}")).context("the module cannot be read")?;
    Ok(output.finish())
}

/// A function in place of an import.
struct Stub {
    /// The index of the imported function.
    import: u32,
    name: String,
    /// The index of its type.
    ty: u32,
    parameters: usize,
    results: Vec<wasmparser::ValType>,
}

/// The functions of a module after the change: first the other imports, then the functions of the module, and then the
/// stubs.
struct Stubs {
    stubs: Vec<Stub>,
    /// The number of all functions.
    functions: u32,
}

impl Stubs {
    fn of(module: &[u8]) -> anyhow::Result<Self> {
        let (mut types, mut stubs, mut functions) = (vec![], vec![], 0);
        // A section states its count before its content, so the count may be any number.
        let plus = |functions: u32, more| functions.checked_add(more).context("the module has too many functions");
        for payload in wasmparser::Parser::new(0).parse_all(module) {
            let payload = payload?;
            if let Payload::TypeSection(section) = payload {
                types = section.into_iter_err_on_gc_types().collect::<Result<Vec<_>, _>>()?;
            } else if let Payload::ImportSection(section) = payload {
                for import in section.into_imports() {
                    let import = import?;
                    let TypeRef::Func(ty) = import.ty else { continue };
                    if import.module == WASI {
                        let signature = types.get(usize::try_from(ty)?).context("an import has no type")?;
                        let (parameters, results) = (signature.params().len(), signature.results().to_vec());
                        stubs.push(Stub { import: functions, name: import.name.to_owned(), ty, parameters, results });
                    }
                    functions = plus(functions, 1)?;
                }
            } else if let Payload::FunctionSection(section) = payload {
                functions = plus(functions, section.count())?;
            }
        }
        Ok(Self { stubs, functions })
    }
}

impl Reencode for Stubs {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Infallible>> {
        let position = self.stubs.partition_point(|stub| stub.import < function);
        let is_stub = self.stubs.get(position).is_some_and(|stub| stub.import == function);
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let moved = if is_stub {
            self.functions - number(self.stubs.len()) + number(position)
        } else {
            function - number(position)
        };
        Ok(moved)
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        for import in section.into_imports() {
            let import = import?;
            if import.module != WASI || !matches!(import.ty, TypeRef::Func(_)) {
                utils::parse_import(self, imports, import)?;
            }
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        self.stubs.iter().for_each(|stub| {
            functions.function(stub.ty);
        });
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        self.stubs.iter().for_each(|stub| {
            code.function(&stub.function());
        });
        Ok(())
    }
}

impl Stub {
    fn function(&self) -> Function {
        let mut function = Function::new([(1, ValType::I32)]);
        let mut body = function.instructions();
        match (self.name.as_str(), self.parameters, self.results.as_slice()) {
            ("args_get" | "environ_get" | "sched_yield", _, [wasmparser::ValType::I32]) => {
                body.i32_const(SUCCESS);
            }
            ("args_sizes_get" | "environ_sizes_get", 2, [wasmparser::ValType::I32]) => {
                for address in 0..2 {
                    body.local_get(address).i32_const(0).i32_store(word(0));
                }
                body.i32_const(SUCCESS);
            }
            ("random_get", 2, [wasmparser::ValType::I32]) => {
                body.local_get(0).i32_const(0).local_get(1).memory_fill(0).i32_const(SUCCESS);
            }
            // Go refuses to start at a time of zero.
            ("clock_time_get", 3, [wasmparser::ValType::I32]) => {
                body.local_get(2).i64_const(1).i64_store(word(0)).i32_const(SUCCESS);
            }
            ("fd_write", 4, [wasmparser::ValType::I32]) => discard(&mut body),
            (_, _, [wasmparser::ValType::I32]) => {
                body.i32_const(BAD_FILE);
            }
            _ => {
                body.unreachable();
            }
        }
        body.end();
        function
    }
}

/// `fd_write(file, buffers, count, written)`: adds up the lengths of the buffers. A runtime whose output fails ends in an
/// endless report of this failure.
fn discard(body: &mut InstructionSink<'_>) {
    let (buffers, count, written, sum) = (1, 2, 3, 4);
    body.block(wasm_encoder::BlockType::Empty).loop_(wasm_encoder::BlockType::Empty);
    body.local_get(count).i32_eqz().br_if(1);
    body.local_get(sum).local_get(buffers).i32_load(word(4)).i32_add().local_set(sum);
    body.local_get(buffers).i32_const(8).i32_add().local_set(buffers);
    body.local_get(count).i32_const(1).i32_sub().local_set(count);
    body.br(0).end().end();
    body.local_get(written).local_get(sum).i32_store(word(0)).i32_const(SUCCESS);
}

/// A place in the memory, without a promise about its alignment.
fn word(offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index: 0 }
}

#[cfg(test)]
mod tests {
    use paddock_plugin_host::componentize;
    use wasm_encoder::{
        EntityType, ExportKind, ExportSection, MemorySection, MemoryType, RawSection, SectionId, TypeSection,
    };

    use super::*;

    /// A module that calls each of its imports.
    fn module(imports: &[(&str, &str, &[ValType])]) -> Vec<u8> {
        let (mut types, mut section, mut functions) =
            (TypeSection::new(), ImportSection::new(), FunctionSection::new());
        let mut body = Function::new([]);
        for (index, (from, name, parameters)) in (0..).zip(imports) {
            types.ty().function(parameters.iter().copied(), [ValType::I32]);
            section.import(from, name, EntityType::Function(index));
            for parameter in *parameters {
                if *parameter == ValType::I64 {
                    body.instructions().i64_const(0);
                } else {
                    body.instructions().i32_const(0);
                }
            }
            body.instructions().call(index).drop();
        }
        body.instructions().end();
        let own = u32::try_from(imports.len()).unwrap();
        types.ty().function([], []);
        functions.function(own);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0).export("_initialize", ExportKind::Func, own);
        let mut code = CodeSection::new();
        code.function(&body);
        let mut module = Module::new();
        module.section(&types).section(&section).section(&functions).section(&memories).section(&exports);
        module.section(&code);
        module.finish()
    }

    #[test]
    fn imports_of_wasi_become_functions() {
        use ValType::{I32, I64};
        let imports: [(&str, &str, &[ValType]); 6] = [
            (WASI, "fd_write", &[I32, I32, I32, I32]),
            (WASI, "clock_time_get", &[I32, I64, I32]),
            (WASI, "random_get", &[I32, I32]),
            (WASI, "fd_write", &[I32, I32, I32, I32]),
            (WASI, "environ_sizes_get", &[I32, I32]),
            (WASI, "poll_oneoff", &[I32, I32, I32, I32]),
        ];
        let module = module(&imports);
        assert!(componentize(&module).unwrap_err().to_string().contains(WASI));
        componentize(&stub(&module).unwrap()).unwrap();
    }

    #[test]
    fn other_imports_stay() {
        let module = module(&[("other", "f", &[]), (WASI, "fd_close", &[ValType::I32]), ("other", "g", &[])]);
        let error = componentize(&stub(&module).unwrap()).unwrap_err().to_string();
        assert!(error.contains("other") && !error.contains(WASI), "{error}");
    }

    #[test]
    fn bytes_that_are_no_module_are_an_error() {
        assert!(stub(b"#!/bin/sh").is_err());
    }

    #[test]
    fn more_functions_than_indexes_are_an_error() {
        let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
        types.ty().function([], [ValType::I32]);
        imports.import(WASI, "fd_close", EntityType::Function(0));
        // `u32::MAX` in LEB128, and no function.
        let functions = RawSection { id: SectionId::Function.into(), data: &[0xff, 0xff, 0xff, 0xff, 0x0f] };
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions);
        let error = stub(&module.finish()).unwrap_err().to_string();
        assert!(error.contains("too many functions"), "{error}");
    }
}
