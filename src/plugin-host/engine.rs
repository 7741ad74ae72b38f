//! The engine: wasmtime, configured for many short calls that are limited and repeatable.

use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::config::{
    HostConfig, KEEP_RESIDENT, Limits, MEMORIES_PER_COMPONENT, TABLE_KEEP_RESIDENT, TABLES_PER_COMPONENT,
};

/// The modules that one component may have. A component in Python has a dozen.
const MODULES_PER_COMPONENT: u32 = 64;
/// The entries that one table may have. The function pointers of the largest interpreters need this many.
const TABLE_ELEMENTS: usize = 40_000;

/// An engine and the interval of its epoch clock. Both come from one configuration, so they agree.
#[derive(Clone)]
pub(crate) struct MeteredEngine {
    pub(crate) engine: Engine,
    tick: Duration,
}

impl MeteredEngine {
    pub(crate) fn new(config: &HostConfig) -> wasmtime::Result<Self> {
        let mut wasm = Config::new();
        wasm.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config.instances())))
            .epoch_interruption(true)
            .consume_fuel(true)
            // The same question gets the same answer on every processor.
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false);
        Ok(Self { engine: Engine::new(&wasm)?, tick: config.tick.max(Duration::from_millis(1)) })
    }

    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }
}

fn pool(components: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(components)
        .total_core_instances(components.saturating_mul(MODULES_PER_COMPONENT))
        .total_memories(components.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(components.saturating_mul(TABLES_PER_COMPONENT))
        .max_core_instances_per_component(MODULES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(1 << 20)
        .max_memory_size(Limits::MAX.memory_bytes)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}
