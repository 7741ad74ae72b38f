//! The contenders of a simulation: loads the plugins, and simulates each contender on a thread.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow, bail};
use paddock_core::binding::{Bindings, FailurePolicy};
use paddock_core::question::Hook;
use paddock_operator::plugins::check_name;
use paddock_operator::plugins::plugin_config::PluginConfig;
use paddock_plugin_host::{BUILT_INS, Host, HostConfig, Limits};
use paddock_simulate::{
    Ask, Candidate, Conditions, Contender, Outcome, PluginContender, Trace, simulate, smallest_fixed,
};

use super::flags::SimulateArgs;
use crate::commands::plugin::component::{configuration, name, parse_configuration};
use crate::output::read;
use crate::usage::{OrBadUsage as _, bad_usage};

/// The plugin and the hit rate, in percent, that are compared if no contender is named.
const DEFAULT_PLUGIN: &str = "pool-by-demand";
const DEFAULT_HIT_RATE: f64 = 99.0;

/// The memory of a host. One call runs at a time, and the largest call needs 260 MiB.
const HOST_MEMORY: usize = 512 << 20;

/// A plugin with its bindings. `ask` asks it in a host of its own, so that its quarantine concerns no other contender.
struct Loaded {
    label: String,
    bindings: Bindings,
    ask: Box<Ask<'static>>,
}

/// One simulation, or the search for a fixed size.
enum Task<'a> {
    Simulate(Contender<'a>),
    /// The smallest fixed size with this hit rate in percent.
    BestFixed(f64),
}

/// Simulates the contenders of the command line: plugins, then fixed sizes, then HPAs.
pub(super) fn outcomes(args: &SimulateArgs, trace: &Trace, conditions: &Conditions) -> anyhow::Result<Vec<Outcome>> {
    let nothing = args.plugins.is_empty() && args.fixed.is_empty() && args.best_fixed.is_empty() && args.hpa.is_empty();
    let (plugins, best_fixed) = if nothing {
        (vec![DEFAULT_PLUGIN.to_owned()], vec![DEFAULT_HIT_RATE])
    } else {
        (args.plugins.clone(), args.best_fixed.clone())
    };
    let load = |value: &String| loaded(value).with_context(|| format!("--plugin {value}"));
    let plugins: Vec<Loaded> = plugins.iter().map(load).collect::<anyhow::Result<_>>()?;
    let contenders: Vec<PluginContender<'_>> = plugins
        .iter()
        .map(|plugin| PluginContender::new(&plugin.label, plugin.bindings.clone(), &*plugin.ask))
        .collect();
    let tasks: Vec<Task<'_>> = contenders
        .iter()
        .map(|contender| Task::Simulate(Contender::Plugin(contender)))
        .chain(best_fixed.into_iter().map(Task::BestFixed))
        .chain(args.fixed.iter().map(|size| Task::Simulate(Contender::Fixed(*size))))
        .chain(args.hpa.iter().map(|target| Task::Simulate(Contender::Hpa(*target))))
        .collect();
    let outcomes = in_parallel(&tasks, |task| match task {
        Task::Simulate(contender) => Ok(simulate(trace, conditions, contender)),
        Task::BestFixed(percent) => smallest_fixed(trace, conditions, *percent).ok_or_else(|| {
            let most = conditions.settings.max_pool_size;
            anyhow!("--best-fixed {percent}: even a pool of {most} Sandboxes has a lower hit rate")
        }),
    })?;
    if let Some(Outcome { name, questions, .. }) = outcomes.iter().find(|outcome| outcome.stopped) {
        bail!(
            "--plugin {name}: after {questions} questions, it still wants to be asked again at once: nextCheck must be later"
        );
    }
    Ok(outcomes)
}

/// The results of all tasks in their order. As many run at once as the machine has processors.
fn in_parallel<T: Sync, R: Send>(tasks: &[T], run: impl Fn(&T) -> anyhow::Result<R> + Sync) -> anyhow::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some((index, task)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            tasks.get(index).map(|task| (index, task))
        } {
            done.push((index, run(task)));
        }
        done
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(tasks.len());
    let mut done: Vec<(usize, anyhow::Result<R>)> = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            done.extend(worker.join().map_err(|_| anyhow!("a simulation panicked"))?);
        }
        anyhow::Ok(())
    })?;
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Loads the plugin of one flag.
fn loaded(value: &str) -> anyhow::Result<Loaded> {
    let (source, config) = split(value);
    let built_in = BUILT_INS.iter().find(|built_in| built_in.name == source && built_in.hook == Hook::PoolSize);
    let (name, component) = match built_in {
        Some(built_in) => (source.to_owned(), built_in.component.to_vec()),
        None => read_component(source)?,
    };
    let config = match config {
        Some(path) => parse_configuration(path)?,
        None if built_in.is_some() => PluginConfig::absent(Limits::default()),
        None => configuration(Path::new(source))?,
    };
    if config.hooks.as_ref().is_some_and(|hooks| !hooks.contains(&Hook::PoolSize)) {
        return Err(bad_usage("hooks: must contain pool-size, or be left out"));
    }
    let host = Host::new(HostConfig { memory_bytes: HOST_MEMORY, ..HostConfig::default() })
        .context("setting up the engine")?;
    let candidate = Candidate {
        name: &name,
        component: &component,
        settings: &config.settings,
        limits: config.limits,
        failure_policy: config.failure_policy.unwrap_or(FailurePolicy::default_of(Hook::PoolSize)),
    };
    let bindings = PluginContender::bindings(&host, &candidate)?;
    Ok(Loaded { label: value.to_owned(), bindings, ask: Box::new(move |request, now| host.ask(request, now)) })
}

/// The name and the bytes of a component in a file.
fn read_component(source: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let path = Path::new(source);
    if path.extension().is_none_or(|extension| extension != "wasm") && !path.exists() {
        let names: Vec<&str> = BUILT_INS.iter().filter(|b| b.hook == Hook::PoolSize).map(|b| b.name).collect();
        return Err(bad_usage(format!(
            "there is no built-in plugin {source:?} for pools: expected {}, or a file such as ./mine.wasm",
            names.join(", ")
        )));
    }
    let name = name(path);
    check_name(&name).map_err(bad_usage)?;
    Ok((name, read(path).or_bad_usage()?))
}

/// The plugin, and the configuration file behind the last colon.
fn split(value: &str) -> (&str, Option<&Path>) {
    match value.rsplit_once(':') {
        // The operator reads files with this ending alone.
        Some((source, config)) if config.ends_with(".yaml") => (source, Some(Path::new(config))),
        Some(_) | None => (value, None),
    }
}
