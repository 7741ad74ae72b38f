//! The contenders of a simulation: loads the plugins, and simulates each contender on a thread.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use paddock_core::binding::{Bindings, FailurePolicy};
use paddock_core::question::{Hook, PluginRequest};
use paddock_operator::plugins::check_name;
use paddock_operator::plugins::plugin_config::PluginConfig;
use paddock_plugin_host::{BUILT_INS, Host, HostConfig, Limits};
use paddock_simulate::{
    Ask, Candidate, Conditions, Contender, Outcome, PluginContender, Trace, simulate, smallest_fixed,
};

use super::flags::SimulateArgs;
use crate::output::read;

/// The plugin and the hit rate, in percent, that are compared if no contender is named.
const DEFAULT_PLUGIN: &str = "pool-by-demand";
const DEFAULT_HIT_RATE: f64 = 99.0;

/// The memory of a host. One call runs at a time, and the largest call needs 260 MiB.
const HOST_MEMORY: usize = 512 << 20;

/// A plugin with its own host, so that its quarantine concerns no other contender.
struct Loaded {
    label: String,
    host: Host,
    bindings: Bindings,
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
    let most = conditions.settings.max_pool_size;
    if let Some(size) = args.fixed.iter().find(|size| **size > most) {
        bail!("--fixed {size} must be at most {most}, the default of --max-pool-size of the operator");
    }
    let load = |value: &String| loaded(value).with_context(|| format!("--plugin {value}"));
    let plugins: Vec<Loaded> = plugins.iter().map(load).collect::<anyhow::Result<_>>()?;
    let asks: Vec<Box<Ask<'_>>> = plugins
        .iter()
        .map(|plugin| -> Box<Ask<'_>> {
            Box::new(|request: &PluginRequest, now: Timestamp| plugin.host.ask(request, now))
        })
        .collect();
    let contenders: Vec<PluginContender<'_>> = plugins
        .iter()
        .zip(&asks)
        .map(|(plugin, ask)| PluginContender::new(&plugin.label, plugin.bindings.clone(), &**ask))
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
        Task::BestFixed(percent) => smallest_fixed(trace, conditions, *percent)
            .ok_or_else(|| anyhow!("--best-fixed {percent}: even a pool of {most} Sandboxes has a lower hit rate")),
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
    let beside =
        || Some(Path::new(source).with_extension("yaml")).filter(|path| source.ends_with(".wasm") && path.exists());
    let config = config.or_else(beside);
    let host = Host::new(HostConfig { memory_bytes: HOST_MEMORY, ..HostConfig::default() })
        .context("setting up the engine")?;
    let config = match &config {
        None => PluginConfig::absent(Limits::default()),
        Some(path) => {
            let text = String::from_utf8(read(path)?).with_context(|| path.display().to_string())?;
            PluginConfig::parse(&text, Limits::default()).with_context(|| path.display().to_string())?
        }
    };
    if config.hooks.as_ref().is_some_and(|hooks| !hooks.contains(&Hook::PoolSize)) {
        bail!("hooks: must contain pool-size, or be left out");
    }
    let built_in = BUILT_INS.iter().find(|built_in| built_in.name == source && built_in.hook == Hook::PoolSize);
    let (name, component) = match built_in {
        Some(built_in) => (source.to_owned(), built_in.component.to_vec()),
        None => component(source)?,
    };
    let candidate = Candidate {
        name: &name,
        component: &component,
        settings: &config.settings,
        limits: config.limits,
        failure_policy: config.failure_policy.unwrap_or(FailurePolicy::default_of(Hook::PoolSize)),
    };
    let bindings = PluginContender::bindings(&host, &candidate)?;
    Ok(Loaded { label: value.to_owned(), host, bindings })
}

/// The name and the bytes of a component in a file.
fn component(source: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let path = Path::new(source);
    if path.extension().is_none_or(|extension| extension != "wasm") && !path.exists() {
        bail!(
            "there is no built-in plugin {source:?} for pools: expected {DEFAULT_PLUGIN}, or a file such as ./mine.wasm"
        );
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    check_name(&name).map_err(|problem| anyhow!(problem))?;
    Ok((name, read(path)?))
}

/// The plugin, and the configuration file behind the last colon.
fn split(value: &str) -> (&str, Option<PathBuf>) {
    match value.rsplit_once(':') {
        // The operator reads files with this ending alone.
        Some((source, config)) if config.ends_with(".yaml") => (source, Some(PathBuf::from(config))),
        Some(_) | None => (value, None),
    }
}
