//! A process without an election, while somebody holds a Lease of its names in any namespace.

use super::*;
use crate::leader::Unelected;
use crate::limits;

fn unelected(server: &Server, name: &str) -> Replica {
    let fence = Fence::closed();
    let obstacle = watch::Sender::new(None);
    let process = Unelected::new(&server.client(name), &LEASES, fence.clone()).reporting_to(obstacle.clone());
    let (leading, obstacle) = (process.leading(), obstacle.subscribe());
    let stop = CancellationToken::new();
    let task = tokio::spawn(process.run(stop.clone()));
    Replica { fence, leading, obstacle, stop, task }
}

/// The longest time from the end of an obstacle until the process acts.
const TURN: Duration = limits::OTHER_LEASE_DURATION.saturating_add(limits::UNELECTED_POLL_INTERVAL);

const RENEWED: &str = "2001-01-01T00:00:00.000000Z";

#[tokio::test(start_paused = true)]
async fn process_without_an_election_does_not_act_while_a_lease_is_held_in_any_namespace() {
    let durations = [(json!(15), 15), (json!(3), 3), (json!(null), 15), (json!(86_400), 300)];
    for namespace in ["ns", "other"] {
        for ((duration, expires), lease) in durations.iter().zip(LEASES.iter().cycle()) {
            for ends in ["expired", "released", "deleted"] {
                let case = format!("{lease} in {namespace} for {duration} is {ends}");
                let server = Server::default();
                let mut a = unelected(&server, "a");
                assert!(a.leads().await < Duration::from_secs(1), "{case}");
                assert!(a.may_write() && a.obstacle.borrow().is_none(), "{case}");
                server.write_in(namespace, lease, "stranger", duration.clone(), RENEWED);
                let start = Instant::now();
                while a.may_write() || a.acts() {
                    sleep(Duration::from_millis(5)).await;
                    assert!(start.elapsed() < Duration::from_secs(1), "{case}: goes on writing");
                }
                let told = a.obstacle.borrow().clone().map(|obstacle| obstacle.to_string()).unwrap_or_default();
                let held = format!("\"stranger\" holds Lease {lease} in namespace {namespace};");
                assert!(told.starts_with(&held), "{case}: {told}");
                let expires = match ends {
                    "released" => {
                        server.write_in(namespace, lease, "", json!(1), RENEWED);
                        Duration::ZERO
                    }
                    "deleted" => {
                        server.delete_in(namespace, lease);
                        Duration::from_secs(*expires)
                    }
                    _ => Duration::from_secs(*expires),
                };
                a.leads().await;
                let took = start.elapsed();
                let least = expires + limits::OTHER_LEASE_DURATION;
                assert!(took >= least && took < expires + TURN + Duration::from_secs(5), "{case}: {took:?}");
                assert!(a.may_write() && a.obstacle.borrow().is_none(), "{case}");
                assert_ne!(server.holder_in(namespace, lease), "a", "it takes no Lease");
                a.task.abort();
            }
        }
    }
}

/// A Lease that is held before the start, and one that is renewed.
#[tokio::test(start_paused = true)]
async fn process_without_an_election_waits_for_a_leader_that_began_before() {
    let server = Server::default();
    let mut elected = candidate(&server, "elected");
    elected.leads().await;
    let mut a = unelected(&server, "a");
    for _ in 0..200 {
        sleep(Duration::from_millis(500)).await;
        assert!(elected.acts() && !a.acts() && !a.may_write());
    }
    elected.stop.cancel();
    a.leads().await;
    a.stop.cancel();
    a.task.await.unwrap();
    assert!(a.fence.remaining().is_none(), "a process that ended writes nothing");
}

/// Operators with an election start, stop and die. The one without an election acts only between them.
#[tokio::test(start_paused = true)]
async fn process_without_an_election_never_writes_beside_a_leader() {
    let (mut led, mut acted) = (0, 0);
    for seed in 0..10 {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = Server::default();
        let a = unelected(&server, "a");
        let mut others: Vec<Replica> = Vec::new();
        for n in 0..6000 {
            sleep(Duration::from_millis(50)).await;
            let leaders = others.iter().filter(|other| other.may_write()).count();
            assert!(leaders == 0 || !a.may_write(), "seed {seed}: both may write");
            (led, acted) = (led + leaders, acted + usize::from(a.may_write()));
            if random.u16(..1000) < 4 {
                match others.pop() {
                    Some(other) if random.bool() => other.stop.cancel(),
                    Some(other) => {
                        other.task.abort();
                        other.fence.revoke();
                    }
                    None => {
                        let (name, scope) = (format!("e{n}"), Scope::Cluster);
                        others.push(candidate_in(&server, &name, ["ns", "x"][random.usize(..2)], scope));
                    }
                }
            }
        }
        for replica in others.into_iter().chain([a]) {
            replica.task.abort();
        }
    }
    assert!(led > 5_000 && acted > 5_000, "{led} and {acted} of 60000");
}

#[tokio::test(start_paused = true)]
async fn process_without_an_election_does_not_act_while_the_leases_are_not_known() {
    for line in [Line::WithoutRight, Line::Refused, Line::Silent] {
        let server = Server::default();
        server.line("a", line);
        let mut a = unelected(&server, "a");
        sleep(Duration::from_secs(120)).await;
        assert!(!a.acts() && !a.may_write(), "{line:?}");
        assert!(matches!(*a.obstacle.borrow(), Some(Obstacle::Unknown(_))), "{line:?}");
        server.line("a", Line::Open);
        a.task.abort();
        a = unelected(&server, "a");
        a.leads().await;
        // The watch lives for a while. After it, the Leases are not known any more.
        if line != Line::Silent {
            server.line("a", line);
            let start = Instant::now();
            while a.acts() || a.may_write() {
                sleep(Duration::from_millis(100)).await;
                assert!(start.elapsed() < Duration::from_mins(2), "{line:?}: goes on writing");
            }
            // A watch that starts again delivers nothing. A list shows that all is well.
            server.line("a", Line::Open);
            assert!(a.leads().await < Duration::from_mins(1), "{line:?}");
            assert_eq!(*a.obstacle.borrow(), None, "{line:?}");
        }
        a.task.abort();
    }
}

/// An interruption that a list repairs does not make the process stop and start.
#[tokio::test(start_paused = true)]
async fn short_interruption_of_the_watch_ends_no_right() {
    let server = Server::default();
    let mut a = unelected(&server, "a");
    a.leads().await;
    let mut told = a.leading.clone();
    told.mark_unchanged();
    for _ in 0..10 {
        // The watch ends within a minute, and its next start fails.
        server.line("a", Line::Refused);
        sleep(Duration::from_millis(1500)).await;
        server.line("a", Line::Open);
        sleep(Duration::from_secs(49)).await;
    }
    assert!(a.acts() && a.may_write());
}
