//! Elections whose Leases are deleted or overwritten while somebody holds them.

use super::*;

/// Fails if two candidates may write at the same time. Returns who may write.
fn only_writer(candidates: &[&Replica], case: &str) -> Option<usize> {
    let able: Vec<usize> = (0..candidates.len()).filter(|n| candidates[*n].may_write()).collect();
    assert!(able.len() <= 1, "{case}: {able:?} may write");
    able.first().copied()
}

#[tokio::test(start_paused = true)]
async fn a_leader_creates_deleted_leases_again_and_goes_on() {
    let all: [&[&str]; 3] = [&LEASES, &LEASES[..1], &LEASES[1..]];
    for deleted in all {
        let case = format!("{deleted:?}");
        let server = Server::default();
        let mut a = candidate(&server, "a");
        a.leads().await;
        let b = candidate(&server, "b");
        sleep(Duration::from_secs(30)).await;
        deleted.iter().for_each(|lease| server.delete_in("ns", lease));
        let start = Instant::now();
        while start.elapsed() < TIMING.lease * 2 {
            sleep(Duration::from_millis(2)).await;
            only_writer(&[&a, &b], &case);
            assert!(a.acts() && !b.acts(), "{case}");
        }
        assert_eq!([server.holder(LEASES[0]), server.holder(LEASES[1])], ["a", "a"], "{case}");
        assert!(a.may_write(), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_counts_as_held_while_its_holder_may_write() {
    for line in [Line::Refused, Line::Silent] {
        let case = format!("{line:?}");
        let server = Server::default();
        let mut a = candidate(&server, "a");
        a.leads().await;
        let mut b = candidate(&server, "b");
        sleep(Duration::from_secs(30)).await;
        server.line("a", line);
        LEASES.iter().for_each(|lease| server.delete_in("ns", lease));
        let start = Instant::now();
        while a.may_write() {
            only_writer(&[&a, &b], &case);
            sleep(Duration::from_millis(10)).await;
        }
        assert!(start.elapsed() > TIMING.renew - TIMING.retry.mul_f64(1.3), "{case}: the deletion ended the right");
        b.leads().await;
        let took = start.elapsed();
        // The lease may have been created and deleted unseen, so its successor also waits for the right that it gave.
        let least = TIMING.lease + TIMING.renew;
        assert!(took >= least && took < least + TIMING.retry * 4, "{case}: {took:?}");
    }
}

/// Only the replica that creates the Leases has to wait for former holders, whoever else has tried to create them.
#[tokio::test(start_paused = true)]
async fn a_replica_that_could_not_create_a_deleted_lease_later_takes_it_at_once() {
    let server = Server::default();
    let mut a = candidate(&server, "a");
    a.leads().await;
    let (mut b, mut c) = (candidate(&server, "b"), candidate(&server, "c"));
    sleep(Duration::from_secs(30)).await;
    a.task.abort();
    LEASES.iter().for_each(|lease| server.delete_in("ns", lease));
    server.line("b", Line::WithoutCreation);
    server.line("c", Line::Refused);
    sleep(TIMING.lease + TIMING.retry * 4).await;
    server.line("c", Line::Open);
    c.leads().await;
    server.line("b", Line::Open);
    sleep(Duration::from_secs(30)).await;
    assert!(c.acts() && !b.acts());
    c.stop.cancel();
    c.task.await.unwrap();
    let took = b.leads().await;
    assert!(took < TIMING.retry.mul_f64(1.3), "{took:?}");
}

/// The time from the loss to the reply that shows the new holder is long, because requests are slow.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_overwritten_stops_before_it_knows_by_whom() {
    let server = Server::default();
    let mut a = candidate(&server, "a");
    a.leads().await;
    sleep(Duration::from_secs(30)).await;
    server.0.lock().unwrap().round_trip = Some(Duration::from_secs(1));
    server.write(LEASES[0], "stranger", "2026-01-01T00:00:00.000000Z");
    let start = Instant::now();
    while a.may_write() {
        sleep(Duration::from_millis(10)).await;
        assert!(start.elapsed() < TIMING.retry * 2, "goes on writing");
    }
    assert!(a.acts(), "the lease is read only now");
    sleep(Duration::from_secs(2)).await;
    assert!(!a.acts() && !a.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_own_write_was_not_answered_goes_on() {
    let server = Server::default();
    let mut a = candidate(&server, "a");
    a.leads().await;
    sleep(Duration::from_secs(30)).await;
    server.line("a", Line::ReplyLost);
    sleep(TIMING.retry.mul_f64(1.3)).await;
    server.line("a", Line::Open);
    for _ in 0..3000 {
        sleep(Duration::from_millis(10)).await;
        assert!(a.acts());
    }
    assert!(a.may_write());
}

/// Somebody deletes Leases while candidates lose their connection and replies. Two of them never have the right to write
/// at the same time.
#[tokio::test(start_paused = true)]
async fn never_do_two_have_the_right_to_write_while_leases_are_deleted() {
    let mut led = 0;
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = Server::default();
        let candidates: Vec<Replica> = (0..3).map(|n| candidate(&server, &format!("c{n}"))).collect();
        // A candidate that has never seen a Lease cannot know that it was held.
        sleep(Duration::from_secs(10)).await;
        let all: Vec<&Replica> = candidates.iter().collect();
        for _ in 0..4000 {
            sleep(Duration::from_millis(50)).await;
            led += usize::from(only_writer(&all, &format!("seed {seed}")).is_some());
            if random.u8(..) < 6 {
                let name = format!("c{}", random.usize(..3));
                match random.u8(0..8) {
                    0 => server.line(&name, Line::Refused),
                    1 => server.line(&name, Line::Silent),
                    2 => server.line(&name, Line::ReplyLost),
                    3 | 4 => {
                        let both = random.bool();
                        let deleted: Vec<&str> = if both { LEASES.to_vec() } else { vec![LEASES[random.usize(..2)]] };
                        let stored = deleted.into_iter().filter(|lease| server.holder(lease) != "nobody");
                        stored.for_each(|lease| server.delete_in("ns", lease));
                    }
                    _ => (0..3).for_each(|n| server.line(&format!("c{n}"), Line::Open)),
                }
            }
        }
        for candidate in candidates {
            candidate.task.abort();
        }
    }
    assert!(led > 5_000, "hardly anybody ever led: {led} of 80000");
}
