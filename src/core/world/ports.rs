//! The ports of the gateway that Sandboxes have, so that TCP connections resume them.
//!
//! The status of a Sandbox is the record of its ports. A Sandbox keeps its ports for as long as it exists. A port that was
//! given back is not given to another Sandbox while an EndpointSlice leads to it, and for a while after that, because a
//! client may still be led to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use paddock_api::kind::Key;
use paddock_api::{PortRange, TcpWakePort};

use crate::tcp_wake::spread;
use crate::time::saturating_add;

/// No namespace has more than this part of the ports.
const NAMESPACE_SHARE: usize = 4;

/// The ports of all Sandboxes.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// The Sandbox of each port.
    held: BTreeMap<u16, Key>,
    of: BTreeMap<Key, Held>,
    /// The ports that were given back: the UID of the Sandbox that had each one, and the end of the wait.
    resting: BTreeMap<u16, (Arc<str>, Timestamp)>,
    /// The EndpointSlices that lead to each port, and the UIDs of their Sandboxes.
    led: BTreeMap<u16, BTreeMap<Key, Arc<str>>>,
    namespaces: BTreeMap<Arc<str>, usize>,
}

/// The ports of one Sandbox.
#[derive(Clone, Debug)]
struct Held {
    uid: Arc<str>,
    ports: Arc<[TcpWakePort]>,
    /// Whether the status of the Sandbox has had the ports. Otherwise no gateway knows them.
    recorded: bool,
}

/// The ports of the gateway to which an EndpointSlice leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leads {
    /// The UID of the Sandbox that controls the slice. Empty if none does.
    pub(super) uid: Arc<str>,
    pub(super) ports: BTreeSet<u16>,
}

/// The ports from which a Sandbox gets its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) range: PortRange,
    /// The time for which a port is not given to another Sandbox.
    pub(super) rest: Duration,
}

/// The reason why there is no port for a Sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// The namespace has its share.
    Namespace,
    /// Every port is in use or was in use a moment ago.
    All,
}

impl Ports {
    /// The ports of a Sandbox, if it has them for exactly these ports of its Service.
    pub(super) fn of(&self, key: &Key, uid: &str, service: &[u16]) -> Option<Arc<[TcpWakePort]>> {
        let held = self.of.get(key).filter(|held| *held.uid == *uid)?;
        held.ports.iter().map(|port| port.port).eq(service.iter().copied()).then(|| held.ports.clone())
    }

    /// Free ports for a Sandbox, as [`Ports::take`] would give them.
    pub(super) fn find(
        &self,
        key: &Key,
        uid: &str,
        service: &[u16],
        rules: Rules,
        now: Timestamp,
    ) -> Result<Arc<[TcpWakePort]>, Exhausted> {
        let own = self.of.get(key).filter(|held| *held.uid == *uid);
        let has = self.namespaces.get(&key.namespace).copied().unwrap_or_default();
        let others = has - own.map_or(0, |held| held.ports.len());
        if (others + service.len()) * NAMESPACE_SHARE > usize::from(rules.range.size()).max(NAMESPACE_SHARE) {
            return Err(Exhausted::Namespace);
        }
        let is_own = |port: u16| own.is_some_and(|held| held.ports.iter().any(|p| p.gateway_port == port));
        let led = |port: u16| self.led.get(&port).is_some_and(|slices| slices.values().any(|of| **of != *uid));
        let mut found: Vec<TcpWakePort> = Vec::new();
        for port in service {
            // The order of each port is its own, so that its last one is the first choice.
            let mut candidates = rules.range.from_number(spread(&[uid, &port.to_string()]));
            let free = candidates.find(|candidate| {
                (!self.held.contains_key(candidate) || is_own(*candidate))
                    && !self.rests(*candidate, uid, now)
                    && !led(*candidate)
                    && !found.iter().any(|other| other.gateway_port == *candidate)
            });
            found.push(TcpWakePort { port: *port, gateway_port: free.ok_or(Exhausted::All)? });
        }
        Ok(found.into())
    }

    /// Gives ports to a Sandbox, unless it has them.
    pub(super) fn take(&mut self, key: &Key, uid: &Arc<str>, service: &[u16], rules: Rules, now: Timestamp) {
        if self.of(key, uid, service).is_none()
            && let Ok(ports) = self.find(key, uid, service, rules, now)
        {
            self.give_back(key, rules, now);
            self.hold(key, Held { uid: uid.clone(), ports, recorded: false });
        }
    }

    /// Takes in the status of a Sandbox. After a start it is the only record, and while another process leads, that one
    /// gives the ports away. If two Sandboxes have a record of one port, a user wrote one of them: the Sandbox that is seen
    /// first keeps the port, and the other one gets another.
    pub(super) fn observed(
        &mut self,
        key: &Key,
        uid: &Arc<str>,
        recorded: &[TcpWakePort],
        rules: Rules,
        now: Timestamp,
    ) {
        if let Some(held) = self.of.get_mut(key) {
            held.recorded |= *held.ports == *recorded;
            let former = held.uid != *uid;
            let withdrawn = held.recorded && recorded.is_empty();
            // Another process gave it other ports.
            let outdated = !held.recorded && !recorded.is_empty();
            if former || withdrawn || outdated {
                self.give_back(key, rules, now);
            }
        }
        if recorded.is_empty() || self.of.contains_key(key) {
            return;
        }
        let different: BTreeSet<u16> = recorded.iter().map(|port| port.gateway_port).collect();
        let free = |port: &u16| {
            let holder = self.held.get(port).and_then(|holder| self.of.get(holder));
            rules.range.contains(*port) && holder.is_none_or(|holder| !holder.recorded) && !self.rests(*port, uid, now)
        };
        if different.len() == recorded.len() && different.iter().all(free) {
            // What was never recorded gives way.
            let holders: Vec<Key> = different.iter().filter_map(|port| self.held.get(port).cloned()).collect();
            holders.iter().for_each(|holder| self.give_back(holder, rules, now));
            self.hold(key, Held { uid: uid.clone(), ports: recorded.into(), recorded: true });
        }
    }

    /// Gives back the ports of a Sandbox that does not exist any more, or that has none any more.
    pub(super) fn give_back(&mut self, key: &Key, rules: Rules, now: Timestamp) {
        let Some(held) = self.of.remove(key) else { return };
        if let Some(count) = self.namespaces.get_mut(&key.namespace) {
            *count = count.saturating_sub(held.ports.len());
            if *count == 0 {
                self.namespaces.remove(&key.namespace);
            }
        }
        for port in held.ports.iter() {
            self.held.remove(&port.gateway_port);
            if held.recorded {
                self.rest(port.gateway_port, &held.uid, rules, now);
            }
        }
    }

    /// Takes in a change of an EndpointSlice.
    pub(super) fn slice_changed(
        &mut self,
        slice: &Key,
        before: Option<&Leads>,
        after: Option<&Leads>,
        rules: Rules,
        now: Timestamp,
    ) {
        if let Some(before) = before {
            for port in before.ports.iter().filter(|port| rules.range.contains(**port)) {
                if let Some(slices) = self.led.get_mut(port) {
                    slices.remove(slice);
                    if slices.is_empty() {
                        self.led.remove(port);
                    }
                }
                // The nodes follow the change later. A Sandbox that has the port gives it back itself.
                if !after.is_some_and(|after| after.ports.contains(port)) && !self.held.contains_key(port) {
                    self.rest(*port, &before.uid, rules, now);
                }
            }
        }
        if let Some(after) = after {
            for port in after.ports.iter().filter(|port| rules.range.contains(**port)) {
                self.led.entry(*port).or_default().insert(slice.clone(), after.uid.clone());
            }
        }
    }

    /// Whether a port is kept from the Sandbox with this UID, because another one had it a moment ago.
    fn rests(&self, port: u16, uid: &str, now: Timestamp) -> bool {
        self.resting.get(&port).is_some_and(|(of, until)| **of != *uid && *until > now)
    }

    /// Keeps a port from all Sandboxes but the one that had it. If several had it, it is kept from all.
    fn rest(&mut self, port: u16, uid: &Arc<str>, rules: Rules, now: Timestamp) {
        let mut rest = (uid.clone(), saturating_add(now, rules.rest));
        if let Some((of, until)) = self.resting.get(&port).filter(|(_, until)| *until > now) {
            if of != uid {
                rest.0 = "".into();
            }
            rest.1 = rest.1.max(*until);
        }
        self.resting.insert(port, rest);
    }

    /// Forgets the ports that have rested.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        self.resting.retain(|_, (_, until)| *until > now);
    }

    fn hold(&mut self, key: &Key, held: Held) {
        for port in held.ports.iter() {
            self.held.insert(port.gateway_port, key.clone());
            self.resting.remove(&port.gateway_port);
        }
        *self.namespaces.entry(key.namespace.clone()).or_default() += held.ports.len();
        self.of.insert(key.clone(), held);
    }
}

#[cfg(test)]
mod tests {
    use paddock_api::kind::Kind;

    use super::*;

    const NOW: i64 = 1_900_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW + seconds).unwrap()
    }

    fn rules(range: &str) -> Rules {
        Rules { range: PortRange::parse(range).unwrap(), rest: Duration::from_secs(300) }
    }

    fn key(namespace: &str, name: &str) -> Key {
        Key::new(Kind::Sandbox, namespace, name)
    }

    fn gateway_ports(ports: Option<Arc<[TcpWakePort]>>) -> Vec<u16> {
        ports.iter().flat_map(|ports| ports.iter().map(|port| port.gateway_port)).collect()
    }

    /// Takes ports, as a plan that was stored does.
    fn take(ports: &mut Ports, key: &Key, service: &[u16], rules: Rules, now: Timestamp) -> Vec<u16> {
        let uid: Arc<str> = format!("uid-of-{}", key.name).into();
        ports.take(key, &uid, service, rules, now);
        let got = ports.of(key, &uid, service);
        if let Some(got) = &got {
            ports.observed(key, &uid, got, rules, now);
        }
        gateway_ports(got)
    }

    #[test]
    fn ports_are_unique_and_survive_a_restart() {
        let rules = rules("20000-20399");
        let mut ports = Ports::default();
        let keys: Vec<Key> = (0..160).map(|n| key(&format!("ns{}", n % 8), &format!("s{n}"))).collect();
        let mut all = BTreeSet::new();
        let mut before = BTreeMap::new();
        for key in &keys {
            let got = take(&mut ports, key, &[22, 8888], rules, at(0));
            assert_eq!(got.len(), 2, "{key}");
            assert!(got.iter().all(|port| rules.range.contains(*port) && all.insert(*port)), "{key} {got:?}");
            before.insert(key.clone(), got);
        }
        // Another process reads the records in another order.
        let mut after = Ports::default();
        for key in keys.iter().rev() {
            let uid: Arc<str> = format!("uid-of-{}", key.name).into();
            let recorded = ports.of(key, &uid, &[22, 8888]).unwrap();
            after.observed(key, &uid, &recorded, rules, at(0));
        }
        for key in &keys {
            assert_eq!(take(&mut after, key, &[22, 8888], rules, at(1)), before[key]);
        }
        assert_eq!(after.held.into_keys().collect::<BTreeSet<_>>(), all);
    }

    #[test]
    fn port_that_was_given_back_rests_and_its_own_sandbox_may_have_it_at_once() {
        let rules = rules("20000-20003");
        let mut ports = Ports::default();
        let mut first = Vec::new();
        for (n, namespace) in ["a", "b", "c", "d"].into_iter().enumerate() {
            first.extend(take(&mut ports, &key(namespace, &format!("s{n}")), &[1], rules, at(0)));
        }
        assert_eq!(first.len(), 4);
        ports.give_back(&key("a", "s0"), rules, at(0));
        for (when, got) in [(1, 0), (299, 0), (300, 1)] {
            assert_eq!(take(&mut ports, &key("e", "new"), &[1], rules, at(when)).len(), got, "after {when} s");
        }
        ports.give_back(&key("e", "new"), rules, at(301));
        assert_eq!(take(&mut ports, &key("f", "other"), &[1], rules, at(302)), Vec::<u16>::new());
        assert_eq!(take(&mut ports, &key("e", "new"), &[1], rules, at(302)).len(), 1);
    }

    #[test]
    fn port_to_which_the_slice_of_another_sandbox_leads_is_not_given_away() {
        let rules = rules("20000-20000");
        let mut ports = Ports::default();
        let of = |uid: &str| Leads { uid: uid.into(), ports: BTreeSet::from([20_000, 80]) };
        let slice = Key::new(Kind::EndpointSlice, "a", "s0");
        let (first, other) = (key("a", "s0"), key("b", "other"));
        assert_eq!(take(&mut ports, &first, &[1], rules, at(0)), [20_000]);
        ports.slice_changed(&slice, None, Some(&of("uid-of-s0")), rules, at(0));
        assert_eq!(take(&mut ports, &first, &[2], rules, at(0)), [20_000], "its own slice is no obstacle");
        ports.give_back(&first, rules, at(1));
        ports.forget_old(at(9999));
        assert_eq!(take(&mut ports, &other, &[1], rules, at(9999)), Vec::<u16>::new());
        // The slice loses its owner, and then its endpoints.
        ports.slice_changed(&slice, Some(&of("uid-of-s0")), Some(&of("")), rules, at(9999));
        assert_eq!(take(&mut ports, &first, &[1], rules, at(9999)), Vec::<u16>::new());
        ports.slice_changed(&slice, Some(&of("")), None, rules, at(10_000));
        for (when, got) in [(10_001, 0), (10_299, 0), (10_300, 1)] {
            assert_eq!(take(&mut ports, &other, &[1], rules, at(when)).len(), got, "{when}");
        }
        assert!(ports.led.is_empty());
    }

    #[test]
    fn slice_that_names_another_sandbox_does_not_shorten_the_rest_of_a_port() {
        let rules = rules("20000-20000");
        let mut ports = Ports::default();
        let (first, other) = (key("a", "s0"), key("b", "other"));
        take(&mut ports, &first, &[1], rules, at(0));
        ports.give_back(&first, rules, at(0));
        let forged = Leads { uid: "uid-of-other".into(), ports: BTreeSet::from([20_000]) };
        let slice = Key::new(Kind::EndpointSlice, "b", "other");
        ports.slice_changed(&slice, None, Some(&forged), rules, at(1));
        ports.slice_changed(&slice, Some(&forged), None, rules, at(2));
        for (when, got) in [(3, 0), (301, 0), (302, 1)] {
            assert_eq!(take(&mut ports, &other, &[1], rules, at(when)).len(), got, "{when}");
        }
    }

    #[test]
    fn port_that_no_status_ever_had_needs_no_rest() {
        let rules = rules("20000-20003");
        let mut ports = Ports::default();
        let uid: Arc<str> = "u".into();
        ports.take(&key("a", "a"), &uid, &[1], rules, at(0));
        // Watches show the Sandbox before its status is written.
        ports.observed(&key("a", "a"), &uid, &[], rules, at(0));
        assert!(ports.of(&key("a", "a"), &uid, &[1]).is_some());
        ports.give_back(&key("a", "a"), rules, at(0));
        assert!(ports.resting.is_empty() && ports.held.is_empty() && ports.namespaces.is_empty());
    }

    #[test]
    fn namespace_gets_a_quarter_of_the_ports() {
        let rules = rules("20000-20099");
        let mut ports = Ports::default();
        let mut got = 0;
        for n in 0..100 {
            got += take(&mut ports, &key("greedy", &format!("s{n}")), &[1], rules, at(0)).len();
        }
        assert_eq!(got, 25);
        let none = ports.find(&key("greedy", "more"), "u", &[1], rules, at(0));
        assert_eq!(none, Err(Exhausted::Namespace));
        for n in 0..75 {
            assert_eq!(take(&mut ports, &key(&format!("ns{n}"), "s"), &[1], rules, at(0)).len(), 1, "{n}");
        }
        assert_eq!(ports.find(&key("late", "s"), "u", &[1], rules, at(0)), Err(Exhausted::All));
    }

    #[test]
    fn record_that_a_user_wrote_takes_no_port_from_another_sandbox() {
        let rules = rules("20000-20099");
        let mut ports = Ports::default();
        let victim = take(&mut ports, &key("a", "victim"), &[1], rules, at(0));
        let forged = [TcpWakePort { port: 1, gateway_port: victim[0] }];
        let uid: Arc<str> = "uid-of-thief".into();
        ports.observed(&key("b", "thief"), &uid, &forged, rules, at(0));
        assert_eq!(ports.of(&key("b", "thief"), &uid, &[1]), None);
        assert_ne!(take(&mut ports, &key("b", "thief"), &[1], rules, at(0)), victim);
        // Neither does one with a port that rests, one out of the range, or one that names a port twice.
        ports.give_back(&key("a", "victim"), rules, at(1));
        for bad in [vec![victim[0]], vec![80], vec![20_001, 20_001]] {
            let recorded: Vec<TcpWakePort> = bad
                .iter()
                .enumerate()
                .map(|(n, port)| TcpWakePort { port: n as u16 + 1, gateway_port: *port })
                .collect();
            let mut ports_with = Ports { resting: ports.resting.clone(), ..Ports::default() };
            ports_with.observed(&key("c", "x"), &uid, &recorded, rules, at(2));
            assert!(ports_with.of.is_empty(), "{bad:?}");
        }
    }

    /// This process led before and had planned to give ports away, which another leader gave away since.
    #[test]
    fn record_of_another_process_comes_before_a_plan_of_this_one() {
        let rules = rules("20000-20099");
        let mut ports = Ports::default();
        let (planned, uid): (Key, Arc<str>) = (key("a", "planned"), "u".into());
        ports.take(&planned, &uid, &[1], rules, at(0));
        let port = ports.of(&planned, &uid, &[1]).unwrap()[0].gateway_port;
        let recorded = [TcpWakePort { port: 9, gateway_port: port }];
        ports.observed(&key("b", "other"), &"v".into(), &recorded, rules, at(1));
        assert_eq!(ports.of(&planned, &uid, &[1]), None);
        assert_eq!(gateway_ports(ports.of(&key("b", "other"), "v", &[9])), [port]);
        ports.take(&planned, &uid, &[1], rules, at(2));
        let again = [TcpWakePort { port: 1, gateway_port: 20_099 }];
        ports.observed(&planned, &uid, &again, rules, at(3));
        assert_eq!(gateway_ports(ports.of(&planned, &uid, &[1])), [20_099]);
    }

    #[test]
    fn ports_that_are_withdrawn_or_of_a_former_sandbox_are_given_back() {
        let rules = rules("20000-20099");
        let mut ports = Ports::default();
        let got = take(&mut ports, &key("a", "a"), &[1], rules, at(0));
        ports.observed(&key("a", "a"), &"uid-of-a".into(), &[], rules, at(1));
        assert!(ports.of.is_empty() && ports.resting.contains_key(&got[0]));
        take(&mut ports, &key("a", "a"), &[1], rules, at(2));
        ports.observed(&key("a", "a"), &"another".into(), &[], rules, at(3));
        assert!(ports.of.is_empty());
        ports.forget_old(at(304));
        assert!(ports.resting.is_empty());
    }
}
