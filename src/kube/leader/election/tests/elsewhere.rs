//! Elections while somebody holds a Lease of the same name in another namespace.

use super::*;

fn apart(server: &Server, name: &str, namespace: &str) -> Replica {
    candidate_in(server, name, namespace, Scope::Cluster)
}

/// The moments at which a Lease may be renewed by a clock that is wrong. Nobody compares them.
const RENEWED: [&str; 3] =
    ["2001-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z", "2101-01-01T00:00:00.000000Z"];

/// Each of our names, durations of all kinds, and clocks that are right and wrong.
#[tokio::test(start_paused = true)]
async fn a_leader_stops_while_a_lease_of_its_names_is_held_in_another_namespace() {
    let durations = [(json!(15), 15), (json!(3), 3), (json!(null), 15), (json!(-1), 15), (json!(86_400), 300)];
    let cases = LEASES.iter().flat_map(|lease| durations.iter().map(move |duration| (lease, duration)));
    for ((lease, (duration, expires)), renewed) in cases.zip(RENEWED.iter().cycle()) {
        let case = format!("{lease} {duration} {renewed}");
        let server = Server::default();
        let mut a = apart(&server, "a", "ns");
        a.leads().await;
        server.write_in("other", lease, "stranger", duration.clone(), renewed);
        let start = Instant::now();
        while a.may_write() {
            sleep(Duration::from_millis(5)).await;
            assert!(start.elapsed() < Duration::from_secs(1), "{case}: goes on writing");
        }
        a.obstacle.wait_for(Option::is_some).await.unwrap();
        let told = a.obstacle.borrow().clone().unwrap().to_string();
        assert!(told.starts_with(&format!("\"stranger\" holds Lease {lease} in namespace other;")), "{told}");
        a.leads().await;
        let (took, expires) = (start.elapsed(), Duration::from_secs(*expires));
        assert!(took >= expires && took < expires + TIMING.retry * 3, "{case}: {took:?}");
        assert_eq!((server.holder(LEASES[0]), a.obstacle.borrow().clone()), ("a".to_owned(), None));
        a.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_elsewhere_keeps_everybody_waiting_until_it_is_released_or_deleted() {
    for ends in ["released", "deleted", "expired"] {
        let server = Server::default();
        server.write_in("other", LEASES[1], "go", json!(15), RENEWED[0]);
        let mut replicas = [apart(&server, "a", "ns"), apart(&server, "b", "ns")];
        for n in 0..60 {
            sleep(Duration::from_secs(2)).await;
            server.write_in("other", LEASES[1], "go", json!(15), &format!("2001-01-01T00:00:{n:02}.000000Z"));
            assert!(replicas.iter().all(|replica| !replica.acts() && !replica.may_write()), "{ends}");
            assert_eq!(server.holder(LEASES[0]), "nobody", "a process that may not act takes no lease");
        }
        match ends {
            "released" => server.write_in("other", LEASES[1], "", json!(1), RENEWED[1]),
            "deleted" => server.delete_in("other", LEASES[1]),
            _ => {}
        }
        let start = Instant::now();
        let [a, b] = &mut replicas;
        tokio::select! { _ = a.leads() => {}, _ = b.leads() => {} }
        // The holder of a deleted Lease may not have noticed it yet.
        let least = if ends == "released" { Duration::ZERO } else { TIMING.lease };
        let took = start.elapsed();
        assert!(took >= least && took < least + TIMING.retry * 3, "{ends}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_names_and_leases_without_a_holder_stop_nobody() {
    let server = Server::default();
    server.write_in("other", "some-controller", "stranger", json!(15), RENEWED[1]);
    server.write_in("other", LEASES[0], "", json!(15), RENEWED[1]);
    let mut a = apart(&server, "a", "ns");
    assert!(a.leads().await < Duration::from_secs(1));
    for n in 0..30 {
        sleep(Duration::from_secs(1)).await;
        server.write_in("other", "some-controller", "stranger", json!(15), &format!("2001-01-01T00:00:{n:02}.000000Z"));
        assert!(a.acts() && a.may_write());
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_later_does_not_disturb_the_leader() {
    for line in [Line::Open, Line::WithoutWatch] {
        let server = Server::default();
        let mut a = apart(&server, "a", "ns");
        a.leads().await;
        server.line("late", line);
        let late = apart(&server, "late", "elsewhere");
        for _ in 0..120 {
            sleep(Duration::from_millis(500)).await;
            assert!(a.acts() && a.may_write() && !late.acts(), "{line:?}");
            assert_eq!(server.holder_in("elsewhere", LEASES[0]), "nobody", "{line:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_list_nobody_acts_and_the_obstacle_says_so() {
    let server = Server::default();
    server.line("a", Line::WithoutRight);
    let mut a = apart(&server, "a", "ns");
    sleep(Duration::from_secs(30)).await;
    assert!(!a.acts() && !a.may_write());
    let told = a.obstacle.borrow().clone().unwrap().to_string();
    assert!(told.contains("not known") && told.contains("Forbidden"), "{told}");
    server.line("a", Line::Open);
    a.leads().await;
    assert_eq!(*a.obstacle.borrow(), None);
}

/// Operators in several namespaces start, lose their connections and die. Two of them never have the right to write at
/// the same time, and somebody leads most of the time.
#[tokio::test(start_paused = true)]
async fn never_do_operators_of_two_namespaces_have_the_right_to_write() {
    let mut led = 0;
    for seed in 0..10 {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = Server::default();
        let new = |n: usize, births: usize| apart(&server, &format!("c{n}-{births}"), ["x", "y", "z"][n]);
        let mut candidates: Vec<Replica> = (0..3).map(|n| new(n, 0)).collect();
        let mut births = [0; 3];
        for _ in 0..4000 {
            sleep(Duration::from_millis(50)).await;
            let able = candidates.iter().filter(|c| c.may_write()).count();
            assert!(able <= 1, "seed {seed}: {able} may write");
            led += able;
            if random.u8(..) < 3 {
                let n = random.usize(..candidates.len());
                let name = format!("c{n}-{}", births[n]);
                match random.u8(0..5) {
                    0 => server.line(&name, Line::Refused),
                    1 => server.line(&name, Line::Silent),
                    2 => server.line(&name, Line::WithoutWatch),
                    3 => {
                        candidates[n].task.abort();
                        candidates[n].fence.revoke();
                        births[n] += 1;
                        candidates[n] = new(n, births[n]);
                    }
                    _ => (0..3).for_each(|n| server.line(&format!("c{n}-{}", births[n]), Line::Open)),
                }
            }
        }
        for candidate in candidates {
            candidate.task.abort();
        }
    }
    assert!(led > 15_000, "hardly anybody ever led: {led} of 40000");
}

/// A new leader reads and lists before and after it takes its Leases. Only the writes may take of its right.
#[tokio::test(start_paused = true)]
async fn slow_requests_do_not_make_the_leadership_flap() {
    for millis in [5, 500, 1000, 1500, 2000, 2400] {
        let server = Server::default();
        server.0.lock().unwrap().round_trip = Some(Duration::from_millis(millis));
        let mut a = apart(&server, "a", "ns");
        a.leads().await;
        for second in 0..120 {
            assert!(a.acts() && a.may_write(), "{millis} ms: stopped after {second} s");
            sleep(Duration::from_secs(1)).await;
        }
    }
}
