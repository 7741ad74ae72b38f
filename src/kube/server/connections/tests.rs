//! The table of connections and requests, without a network.

use std::net::IpAddr;
use std::time::Duration;

use super::*;

const LIMITS: ServerLimits = ServerLimits {
    connections: 8,
    connections_per_peer: 6,
    bytes: 1000,
    memory: 6400,
    ..crate::limits::ENDPOINT_SERVER
};

fn peer(n: u8) -> Peer {
    Peer::of(IpAddr::from([10, 0, 0, n]))
}

fn evicted(place: &Place) -> bool {
    place.evicted.is_cancelled()
}

fn admit(connections: &Connections, of: u8, age: u64) -> Place {
    admit_at(connections, of, Instant::now() + Duration::from_secs(age))
}

fn admit_at(connections: &Connections, of: u8, now: Instant) -> Place {
    assert!(connections.has_place(peer(of), now));
    connections.admit(peer(of), now, |_| {}).expect("a place")
}

fn answering(place: &Place) -> Pending {
    let pending = place.begin();
    pending.connections.complete(pending.id);
    pending
}

#[test]
fn an_address_counts_as_its_ipv4_address_or_its_ipv6_network() {
    let of = |text: &str| Peer::of(text.parse().unwrap());
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
}

#[tokio::test(start_paused = true)]
async fn the_client_with_the_most_silent_connections_makes_room() {
    let connections = Connections::new(LIMITS);
    let mut hostile: Vec<Place> = (0..6).map(|n| admit(&connections, 1, n + 10)).collect();
    // These are older, but there are fewer of them.
    let others: Vec<Place> = (0..2).map(|n| admit(&connections, 2, n)).collect();
    let good = admit(&connections, 3, 20);
    assert!(evicted(&hostile[0]), "the oldest of the largest");
    assert!(hostile.iter().skip(1).chain(&others).all(|place| !evicted(place)));
    // A further one of the same client takes a place of this client.
    hostile.push(admit(&connections, 1, 30));
    assert!(evicted(&hostile[1]) && !others.iter().any(evicted) && !evicted(&good));
    assert_eq!(connections.usage().0, 8);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_an_answer_outlasts_silent_ones_and_a_request_is_never_interrupted() {
    let connections = Connections::new(LIMITS);
    let proven: Vec<Place> = (0..4).map(|n| admit(&connections, 1, n)).collect();
    proven.iter().for_each(Place::prove);
    let silent = admit(&connections, 2, 50);
    let busy: Vec<Place> = (0..3).map(|n| admit(&connections, 3, n)).collect();
    let requests: Vec<Pending> = busy.iter().map(answering).collect();
    let first = admit(&connections, 4, 60);
    assert!(evicted(&silent), "the only one that has shown nothing and says nothing");
    first.prove();
    let _second = admit(&connections, 5, 61);
    assert!(evicted(&proven[0]), "the oldest of the client with the most");
    assert!(!busy.iter().any(evicted));
    drop(requests);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_answers_takes_no_more() {
    let connections = Connections::new(LIMITS);
    let places: Vec<Place> = (0..8).map(|n| admit(&connections, n, 0)).collect();
    let mut requests: Vec<Pending> = places.iter().map(answering).collect();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!connections.has_place(peer(9), Instant::now()));
    assert!(connections.admit(peer(9), Instant::now(), |_| {}).is_none());
    requests.pop();
    assert!(!connections.has_place(peer(9), Instant::now()), "its client may send the next request");
    tokio::time::advance(limits::SILENCE_MIN).await;
    admit(&connections, 9, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_time_to_show_something() {
    let connections = Connections::new(LIMITS);
    let places: Vec<Place> = (0..8).map(|n| admit(&connections, n % 2, 0)).collect();
    tokio::time::advance(limits::SILENCE_MIN - Duration::from_millis(1)).await;
    assert!(!connections.has_place(peer(9), Instant::now()));
    tokio::time::advance(Duration::from_millis(1)).await;
    admit(&connections, 9, 0);
    assert_eq!(places.iter().filter(|place| evicted(place)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_is_measured_by_what_the_client_has_shown() {
    let connections = Connections::new(LIMITS);
    let start = Instant::now();
    let place = admit(&connections, 1, 0);
    assert_eq!(place.silent_at(), start + LIMITS.first_request);
    tokio::time::advance(Duration::from_secs(3)).await;
    // A request without success gives as much time as the first one.
    drop(answering(&place));
    assert_eq!(place.silent_at(), Instant::now() + LIMITS.first_request);
    place.prove();
    drop(answering(&place));
    assert_eq!(place.silent_at(), Instant::now() + LIMITS.idle);
    // A body that is not complete gives no time.
    let other = admit(&connections, 1, 0);
    let since = other.silent_at();
    let half = other.begin();
    connections.receive(half.id, 10).ok().expect("room");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(other.silent_at(), since);
}

#[tokio::test(start_paused = true)]
async fn the_client_with_the_most_unfinished_bytes_makes_room() {
    let connections = Connections::new(LIMITS);
    let places: Vec<Place> = (0..4).map(|n| admit(&connections, 1, n)).collect();
    let halves: Vec<Pending> = places.iter().map(Place::begin).collect();
    for half in &halves {
        assert!(connections.receive(half.id, 240).is_ok());
    }
    let place = admit(&connections, 2, 9);
    let good = place.begin();
    assert!(connections.receive(good.id, 200).is_ok());
    let refused: Vec<bool> = halves.iter().map(|half| half.refused.is_cancelled()).collect();
    assert_eq!(refused.iter().filter(|refused| **refused).count(), 1, "{refused:?}");
    assert!(!good.refused.is_cancelled());
    // A client that has the most itself is refused.
    let more = halves.iter().find(|half| !half.refused.is_cancelled()).expect("one is left");
    let largest = (0..100).any(|_| connections.receive(more.id, 240).is_err());
    assert!(largest && !good.refused.is_cancelled());
    drop((halves, good));
    assert_eq!(connections.usage().1, 0, "everything is given back");
}

#[tokio::test(start_paused = true)]
async fn turns_go_round_the_clients_and_fit_the_memory() {
    let connections = Connections::new(LIMITS);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (of, count) in [(1, 20), (2, 2)] {
        for n in 0..count {
            let (connections, order) = (connections.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let place = connections.admit(peer(of * 10 + n % 4), Instant::now(), |_| {});
                let pending = place.as_ref().map(answering).expect("a place");
                connections.turn(pending.id, 3000).await;
                assert!(connections.usage().2 <= LIMITS.largest(), "{:?}", connections.usage());
                order.lock().push(of);
                tokio::time::sleep(Duration::from_millis(10)).await;
                drop(pending);
            }));
            if n % 4 == 3 {
                tokio::time::sleep(Duration::from_millis(41)).await;
            }
        }
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(order.lock().len(), 22);
    assert_eq!(connections.usage(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_with_many_requests_waits_for_its_own() {
    let connections = Connections::new(LIMITS);
    let (hostile, good) = (admit(&connections, 1, 0), admit(&connections, 2, 0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (place, name, count) in [(&hostile, "hostile", 50), (&good, "good", 2)] {
        for _ in 0..count {
            let (pending, connections, order) = (answering(place), connections.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                connections.turn(pending.id, 4800).await;
                order.lock().push(name);
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(pending);
            }));
        }
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    let last = order.lock().iter().rposition(|name| *name == "good");
    assert!(last.is_some_and(|last| last <= 5), "{:?}", order.lock());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_while_it_waits_leaves_nothing_behind() {
    let connections = Connections::new(LIMITS);
    let place = admit(&connections, 1, 0);
    let first = answering(&place);
    connections.turn(first.id, 4800).await;
    for _ in 0..3 {
        let waits = answering(&place);
        let turn = connections.turn(waits.id, 4800);
        assert!(tokio::time::timeout(Duration::from_millis(1), turn).await.is_err());
        drop(waits);
    }
    drop(first);
    let next = answering(&place);
    connections.turn(next.id, 4800).await;
    assert_eq!(connections.usage(), (1, 0, 4800));
}

#[tokio::test(start_paused = true)]
async fn a_small_request_never_waits_for_a_large_one() {
    let connections = Connections::new(LIMITS);
    let place = admit(&connections, 1, 0);
    let large: Vec<Pending> = (0..5).map(|_| answering(&place)).collect();
    connections.turn(large[0].id, LIMITS.largest()).await;
    let wait = Duration::from_millis(1);
    for waits in &large[1..] {
        assert!(tokio::time::timeout(wait, connections.turn(waits.id, LIMITS.small() + 1)).await.is_err());
    }
    let small = answering(&place);
    tokio::time::timeout(wait, connections.turn(small.id, LIMITS.small())).await.expect("a turn");
}
