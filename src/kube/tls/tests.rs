//! The steps of a rotation as a table, and a rotation during calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::cert_state::Retired;
use super::*;

const HOSTS: &[&str] = &["paddock-webhook.agent-sandbox-system.svc"];

fn hosts() -> Vec<String> {
    HOSTS.iter().map(|h| (*h).to_owned()).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn pair(issued: Timestamp, lifetimes: &Lifetimes) -> KeyPair {
    issue(&hosts(), issued, lifetimes.certificate).expect("issued")
}

#[test]
fn what_is_due_follows_from_the_clock_and_from_what_is_trusted() {
    let lifetimes = Lifetimes::default();
    let day = |n: i64| at("2026-01-01T00:00:00Z") + SignedDuration::from_hours(24 * n);
    let minutes = |n: i64| SignedDuration::from_mins(n);
    let fresh = CertState::new(pair(day(0), &lifetimes));
    let staged = CertState { next: Some(pair(day(60), &lifetimes)), ..fresh.clone() };
    let switched = CertState {
        previous: Some(Retired { authority: "old".to_owned(), since: day(60) }),
        ..CertState::new(pair(day(60), &lifetimes))
    };
    let renamed = vec!["other.svc".to_owned()];
    for (what, state, now, hosts, trusted, step) in [
        ("fresh", &fresh, day(1), hosts(), true, Step::Keep),
        ("a day too early", &fresh, day(59), hosts(), true, Step::Keep),
        ("a month before its end", &fresh, day(60), hosts(), true, Step::Stage),
        ("renamed", &fresh, day(1), renamed.clone(), true, Step::Stage),
        ("past its end", &fresh, day(90), hosts(), true, Step::Replace),
        ("staged just now", &staged, day(60) + minutes(9), hosts(), true, Step::Keep),
        ("staged, not trusted everywhere", &staged, day(60) + minutes(99), hosts(), false, Step::Keep),
        ("staged and trusted", &staged, day(60) + minutes(10), hosts(), true, Step::Switch),
        ("staged for other hosts", &staged, day(60) + minutes(10), renamed, true, Step::Stage),
        ("past its end though staged", &staged, day(90), hosts(), false, Step::Replace),
        ("switched just now", &switched, day(60) + minutes(9), hosts(), true, Step::Keep),
        ("switched for long enough", &switched, day(60) + minutes(10), hosts(), true, Step::Retire),
    ] {
        assert_eq!(state.step(now, &hosts, &lifetimes, trusted), step, "{what}");
    }
}

/// A replica whose clock was wrong wrote the state, or a part of it. The next replica with the right time puts it right,
/// and the API server trusts at every step what any replica may still serve.
#[test]
fn what_a_wrong_clock_wrote_is_replaced_and_stays_trusted_until_then() {
    let lifetimes = Lifetimes::default();
    let now = at("2026-11-29T12:00:00Z");
    let hours = [0, 1, 2, 23, 25, 24 * 29, 24 * 60, 24 * 91, 24 * 365 * 10];
    for offset in hours.into_iter().flat_map(|hours| [hours, -hours]).map(SignedDuration::from_hours) {
        let wrong = now + offset;
        let right = CertState::new(pair(now - SignedDuration::from_hours(24), &lifetimes));
        for (what, state) in [
            ("all of it", CertState::new(pair(wrong, &lifetimes))),
            ("the next pair", CertState { next: Some(pair(wrong, &lifetimes)), ..right.clone() }),
            (
                "a switch",
                CertState { previous: Some(Retired { authority: "old".to_owned(), since: wrong }), ..right.clone() },
            ),
            ("a replacement", right.clone().after(Step::Replace, wrong, || Some(pair(wrong, &lifetimes)))),
        ] {
            let (mut state, mut time, mut steps) = (state, now, Vec::new());
            // The served certificates are those of this state and of the one before.
            let mut served = vec![state.current.authority.clone()];
            while time < now + SignedDuration::from_hours(1) {
                let step = state.step(time, &hosts(), &lifetimes, true);
                if step != Step::Keep {
                    state = state.after(step, time, || Some(pair(time, &lifetimes)));
                    steps.push(step);
                    let bundle = state.bundle();
                    assert!(
                        served.iter().all(|served| bundle.contains(served) || step == Step::Retire),
                        "{what} {offset}"
                    );
                    served = vec![served.pop().unwrap_or_default(), state.current.authority.clone()];
                }
                time += SignedDuration::from_mins(1);
            }
            let current = &state.current;
            let age = now.duration_since(current.issued);
            assert!(
                age > -SignedDuration::from_hours(1) && current.not_after > time,
                "{what} {offset}: {steps:?} {current:?}"
            );
            assert!(steps.len() <= 4, "{what} {offset}: {steps:?}");
        }
    }
}

/// The certificate is valid at every API server whose clock is up to a day behind the issuer's.
#[test]
fn a_certificate_is_valid_before_its_issue() {
    let lifetimes = Lifetimes::default();
    let issued = at("2026-11-29T12:00:00Z");
    let hour = SignedDuration::from_hours(1);
    for (what, now, step) in [
        ("a day before", issued - hour * 24, Step::Stage),
        ("more than a day before", issued - hour * 25, Step::Replace),
        ("a moment before", issued - SignedDuration::from_secs(30), Step::Keep),
        ("at its issue", issued, Step::Keep),
        ("past its end", issued + lifetimes.certificate, Step::Replace),
    ] {
        assert_eq!(CertState::new(pair(issued, &lifetimes)).step(now, &hosts(), &lifetimes, true), step, "{what}");
    }
    let staged =
        CertState { next: Some(pair(issued + hour * 24 * 60, &lifetimes)), ..CertState::new(pair(issued, &lifetimes)) };
    let past = issued + lifetimes.certificate;
    assert_eq!(staged.step(past, &hosts(), &lifetimes, true), Step::Switch, "the next pair is trusted already");
}

#[test]
fn a_rotation_has_to_fit_into_a_certificates_life() {
    let seconds = Duration::from_secs;
    let default = Lifetimes::default();
    let of = |lifetime, renew, overlap| Lifetimes::of(seconds(lifetime), seconds(renew), seconds(overlap));
    assert_eq!(of(90 * 86_400, 30 * 86_400, 600), Ok(default));
    for (lifetime, renew, overlap, error) in [
        (60, 60, 5, BadLifetimes::TooShort),
        (60, 14, 5, BadLifetimes::TooShort),
        (60, 30, 0, BadLifetimes::NoOverlap),
        (u64::MAX, 30, 5, BadLifetimes::TooLong),
    ] {
        assert_eq!(of(lifetime, renew, overlap), Err(error), "{lifetime} {renew} {overlap}");
    }
}

#[test]
fn a_rotation_ends_where_it_began_and_trusts_both_in_between() {
    let lifetimes = Lifetimes::default();
    let start = at("2026-01-01T00:00:00Z");
    let mut state = CertState::new(pair(start, &lifetimes));
    let first = state.current.clone();
    let (mut now, mut steps) = (start, Vec::new());
    while steps.len() < 3 {
        let step = state.step(now, &hosts(), &lifetimes, true);
        if step == Step::Keep {
            now += SignedDuration::from_mins(1);
            continue;
        }
        steps.push(step);
        let served_before = state.current.authority.clone();
        let trusted_before = state.bundle();
        state = state.after(step, now, || Some(pair(now, &lifetimes)));
        assert!(trusted_before.contains(&state.current.authority), "{step:?}: served only what was trusted");
        if step != Step::Retire {
            assert!(state.bundle().contains(&served_before), "{step:?}: what was served is still trusted");
        }
    }
    assert_eq!(steps, [Step::Stage, Step::Switch, Step::Retire]);
    assert_eq!((&state.next, &state.previous), (&None, &None));
    assert_ne!(state.current.authority, first.authority);
    assert!(!state.bundle().contains(&first.authority));
}

#[test]
fn the_secret_holds_everything_and_the_usual_keys() {
    let lifetimes = Lifetimes::default();
    let now = at("2026-01-01T00:00:00Z");
    let state = CertState::new(pair(now, &lifetimes)).after(Step::Stage, now, || Some(pair(now, &lifetimes)));
    let data = state.to_secret().expect("JSON");
    assert_eq!(data.keys().map(String::as_str).collect::<Vec<_>>(), ["ca.crt", "paddock.json", "tls.crt", "tls.key"]);
    assert_eq!(String::from_utf8_lossy(&data["ca.crt"].0), state.bundle());
    assert_eq!(CertState::from_secret(&data), Some(state.clone()));
    let mut broken = data;
    broken.insert("paddock.json".to_owned(), k8s_openapi::ByteString(b"{}".to_vec()));
    assert_eq!(CertState::from_secret(&broken), None);
    assert!(!format!("{state:?}").contains("PRIVATE"), "keys are not logged");
}

#[test]
fn a_pair_that_cannot_be_served_does_not_replace_one_that_can() {
    let lifetimes = Lifetimes::default();
    let (one, other) = (pair(Timestamp::now(), &lifetimes), pair(Timestamp::now(), &lifetimes));
    let serving_cert = ServingCert::default();
    assert!(!serving_cert.ready());
    serving_cert.serve(one.certificate.as_bytes(), one.key.as_bytes()).expect("served");
    for (what, certificate, key) in [
        ("another's key", one.certificate.as_str(), other.key.as_str()),
        ("no certificate", "", one.key.as_str()),
        ("no key", one.certificate.as_str(), ""),
        ("garbage", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", one.key.as_str()),
    ] {
        assert!(serving_cert.serve(certificate.as_bytes(), key.as_bytes()).is_err(), "{what}");
        assert!(serving_cert.ready(), "{what}");
    }
}

/// Makes one call over a new connection, like an API server that trusts `bundle`.
async fn call(address: std::net::SocketAddr, bundle: &str) -> std::io::Result<u8> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(HOSTS[0]).expect("a name");
    let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
    stream.write_all(b"?").await?;
    stream.read_u8().await
}

/// Two replicas read the Secret at different times, and clients get a new bundle late. No call fails during three
/// rotations. Certificates are checked against the real clock, and the steps use a clock of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_load_fails_no_call() {
    let lifetimes = Lifetimes::default();
    let start = Timestamp::now();
    let secret = Arc::new(Mutex::new(CertState::new(pair(start, &lifetimes))));
    let configured = Arc::new(Mutex::new(secret.lock().expect("a lock").bundle()));
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let serving_cert = ServingCert::default();
        let first = secret.lock().expect("a lock").current.clone();
        serving_cert.serve(first.certificate.as_bytes(), first.key.as_bytes()).expect("served");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = TlsAcceptor::from(Arc::new(serving_cert.server_config().expect("TLS")));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if stream.read_u8().await.is_ok() {
                        let _ = stream.write_all(b"!").await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        replicas.push((serving_cert, address));
    }

    let stop = Arc::new(AtomicBool::new(false));
    let calls: Vec<_> = (0..4).map(|_| tokio::sync::watch::Sender::new(0)).collect();
    let clients: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(client, calls)| {
            let address = replicas[client % 2].1;
            let (configured, calls, stop) = (configured.clone(), calls.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let bundle = configured.lock().expect("a lock").clone();
                    let answer = call(address, &bundle).await;
                    assert!(matches!(answer, Ok(b'!')), "call {}: {answer:?}", *calls.borrow());
                    calls.send_modify(|calls| *calls += 1);
                }
            })
        })
        .collect();
    // An overlap is longer than any call. After two more calls, no call with the old bundle is in flight.
    let two_more_calls = async || {
        for calls in &calls {
            let before = *calls.borrow();
            let wait = async { calls.subscribe().wait_for(|now| *now >= before + 2).await.map(|_| ()) };
            tokio::time::timeout(Duration::from_secs(240), wait).await.expect("calls go on").expect("a sender");
        }
    };

    // The clock of the steps. Each round takes one overlap, in which both replicas read once.
    let (mut now, mut rotations) = (start, 0);
    while rotations < 3 {
        let state = secret.lock().expect("a lock").clone();
        for (serving_cert, _) in &replicas {
            serving_cert.serve(state.current.certificate.as_bytes(), state.current.key.as_bytes()).expect("served");
            *configured.lock().expect("a lock") = state.bundle();
            two_more_calls().await;
        }
        let step = state.step(now, &hosts(), &lifetimes, true);
        rotations += usize::from(step == Step::Retire);
        *secret.lock().expect("a lock") = state.after(step, now, || {
            // The certificate is valid by the real clock, and issued by this clock.
            Some(KeyPair { issued: now, not_after: now + lifetimes.certificate, ..pair(Timestamp::now(), &lifetimes) })
        });
        now += if step == Step::Keep { SignedDuration::from_hours(24 * 60) } else { lifetimes.overlap };
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no call failed");
    }
}
