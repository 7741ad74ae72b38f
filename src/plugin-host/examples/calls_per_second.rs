//! Measures how long the built-ins take to load and to answer. Each call uses a new instance.
//!
//! `cargo run --release -p paddock-plugin-host --example calls-per-second` prints the times and checks nothing.

#![expect(clippy::unwrap_used, reason = "a measurement: whatever fails ends it")]

use std::time::{Duration, Instant};

use jiff::Timestamp;
use paddock_core::binding::Binding;
use paddock_core::question::{
    AdmissionQuestion, Hook, IdleQuestion, IdleTier, Operation, PluginRequest, PoolSizeQuestion, Question,
    RuntimeClassFact, RuntimeClassQuestion,
};
use paddock_plugin_host::{BUILT_INS, Host, HostConfig, Source};

const FOR: Duration = Duration::from_secs(2);

fn main() {
    println!(
        "{:<24} {:>9} {:>9} {:>16} {:>12} {:>12}",
        "plugin", "bytes", "load ms", "call us p50/p99", "calls/s", "2 threads"
    );
    for built_in in BUILT_INS {
        let host = Host::new(HostConfig::default()).unwrap();
        let started = Instant::now();
        host.load(Source { name: built_in.name, component: built_in.component, limits: None }).unwrap();
        let load = started.elapsed();
        let binding = host.load_built_in(&built_in).unwrap();
        let ask = ask(&binding);
        let mut times = run(&host, &ask);
        let one = times.len() as f64 / FOR.as_secs_f64();
        let two: usize = std::thread::scope(|scope| {
            let threads = [0, 1].map(|_| scope.spawn(|| run(&host, &ask).len()));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        times.sort_unstable();
        let micros = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
        println!(
            "{:<24} {:>9} {:>9.1} {:>16} {one:>12.0} {:>12.0}",
            built_in.name,
            built_in.component.len(),
            load.as_secs_f64() * 1e3,
            format!("{:.1} / {:.1}", micros(50), micros(99)),
            two as f64 / FOR.as_secs_f64(),
        );
    }
}

fn run(host: &Host, ask: &PluginRequest) -> Vec<Duration> {
    let (now, started, mut times) = (Timestamp::UNIX_EPOCH, Instant::now(), Vec::with_capacity(1 << 20));
    while started.elapsed() < FOR {
        let call = Instant::now();
        host.ask(ask, now).unwrap();
        times.push(call.elapsed());
    }
    times
}

fn ask(binding: &Binding) -> PluginRequest {
    let now: Timestamp = "2026-09-01T12:00:00Z".parse().unwrap();
    let classes = vec![
        RuntimeClassFact { name: "gvisor".into(), handler: "runsc".into(), isolated: true, nodes: 3 },
        RuntimeClassFact { name: "kata".into(), handler: "kata".into(), isolated: true, nodes: 1 },
    ];
    let (namespace, name) = (String::from("agents"), String::from("agent-7842"));
    let question = match binding.hook {
        Hook::Admission => Question::Admission(Box::new(AdmissionQuestion {
            operation: Operation::Create,
            group: String::new(),
            version: "v1".into(),
            kind: "Pod".into(),
            namespace,
            name,
            object: include_str!("pod.json").into(),
            old_object: None,
            namespace_labels: [("team".into(), "research".into())].into(),
            username: "system:serviceaccount:agents:runner".into(),
            groups: vec!["system:authenticated".into()],
            generated_code: true,
            classes,
            dry_run: false,
            now,
        })),
        Hook::RuntimeClass => Question::RuntimeClass(Box::new(RuntimeClassQuestion {
            namespace,
            name,
            labels: [("app".into(), "agent".into())].into(),
            images: vec!["registry.example/agent:1".into()],
            requested: None,
            generated_code: true,
            namespace_labels: [].into(),
            classes,
            now,
        })),
        Hook::Idle => Question::Idle(Box::new(IdleQuestion {
            namespace,
            name,
            labels: [].into(),
            idle_timeout_ms: 1_800_000,
            created: now,
            ready_since: Some(now),
            last_activity: Some(now),
            held_until: None,
            connections: None,
            cpu_millicores: None,
            tiers: vec![IdleTier::Suspend],
            state: vec![],
            now,
        })),
        Hook::PoolSize => Question::PoolSize(Box::new(PoolSizeQuestion {
            namespace,
            name,
            labels: [].into(),
            min: 5,
            max: 20,
            ready: 5,
            creating: 0,
            claimed: 12,
            bucket_seconds: 10,
            arrivals: (0..60).map(|bucket| bucket * 7 % 13).collect(),
            hits: 50,
            misses: 1,
            refill_ms: Some(4200),
            state: br#"{"level":7.25,"at":1788263990000}"#.to_vec(),
            now,
        })),
    };
    binding.request(question)
}
