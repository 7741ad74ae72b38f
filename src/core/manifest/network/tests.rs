//! The default rules of a template's NetworkPolicy, judged by the addresses that they admit.

use serde_json::Value;

use super::*;

fn spec(settings: &NetworkSettings) -> Value {
    network_policy_spec("t", &NetworkPolicy::SecureDefault, settings).unwrap()
}

/// An address: its bits, and their number.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Address(u128, u32);

fn address(text: &str) -> Address {
    if !text.contains(':') {
        let octets = text.split('.').map(|octet| octet.parse::<u8>().unwrap());
        return Address(octets.fold(0, |bits, octet| bits << 8 | u128::from(octet)), 32);
    }
    let groups = |part: &str| -> Vec<u128> {
        part.split(':').filter(|g| !g.is_empty()).map(|g| u128::from_str_radix(g, 16).unwrap()).collect()
    };
    let (before, after) = text.split_once("::").map_or((text, None), |(before, after)| (before, Some(after)));
    let (mut all, after) = (groups(before), groups(after.unwrap_or_default()));
    all.resize(8 - after.len(), 0);
    all.extend(after);
    Address(all.into_iter().fold(0, |bits, group| bits << 16 | group), 128)
}

/// The first address of a block, and the number of bits in which its addresses may differ.
fn block(cidr: &str) -> (Address, u32) {
    let (network, length) = cidr.split_once('/').unwrap();
    let network = address(network);
    (network, network.1 - length.parse::<u32>().unwrap())
}

fn contains(cidr: &str, address: Address) -> bool {
    let (network, free) = block(cidr);
    let shifted = |bits: u128| bits.checked_shr(free).unwrap_or(0);
    network.1 == address.1 && shifted(network.0) == shifted(address.0)
}

/// Whether a spec lets a pod connect to an address and port.
fn admits(spec: &Value, address: Address, port: u64) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(&spec["egress"]).iter().any(|rule| {
        let ports = list(&rule["ports"]);
        let peers = list(&rule["to"]);
        let port_matches = ports.is_empty() || ports.iter().any(|p| p["port"] == port);
        let peer_matches = peers.iter().any(|peer| {
            let Some(cidr) = peer["ipBlock"]["cidr"].as_str() else { return false };
            let excluded = |except: &Value| contains(except.as_str().unwrap(), address);
            contains(cidr, address) && !list(&peer["ipBlock"]["except"]).iter().any(excluded)
        });
        port_matches && (peers.is_empty() || peer_matches)
    })
}

/// The first and the last address of a block.
fn ends(cidr: &str) -> [Address; 2] {
    let (Address(first, bits), free) = block(cidr);
    [first, first | 1_u128.checked_shl(free).unwrap_or(0).wrapping_sub(1)].map(|end| Address(end, bits))
}

/// All blocks of the two IANA special-purpose registries, and multicast.
const REGISTRIES: [&str; 58] = [
    "0.0.0.0/8",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/32",
    "192.0.0.171/32",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.88.99.2/32",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "224.0.0.0/4",
    "168.63.129.16/32",
    "::1/128",
    "::/128",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
    // Addresses that are of interest to code in a sandbox.
    "169.254.169.254/32",
    "100.100.100.200/32",
    "fd00:ec2::254/128",
    "64:ff9b::a9fe:a9fe/128",
];

#[test]
fn no_address_of_a_special_purpose_registry_is_admitted() {
    let spec = spec(&NetworkSettings::default());
    for cidr in REGISTRIES {
        for end in ends(cidr) {
            for port in [53, 80, 443] {
                assert!(!admits(&spec, end, port), "{end:x?}:{port} of {cidr}");
            }
        }
    }
}

#[test]
fn public_addresses_and_the_dns_of_the_cluster_are_admitted() {
    let spec = spec(&NetworkSettings::default());
    for text in ["1.1.1.1", "8.8.8.8", "203.0.112.10", "9.255.255.255", "11.0.0.0", "2606:4700::1111", "2a00:1450::1"] {
        assert!(admits(&spec, address(text), 443), "{text}");
    }
    assert!(admits(&spec, address("169.254.20.10"), 53) && !admits(&spec, address("169.254.20.10"), 80));
    let rules = spec["egress"].to_string();
    assert!(rules.contains(r#""podSelector":{"matchLabels":{"k8s-app":"kube-dns"}}"#), "{rules}");
    let protocols: Vec<_> =
        spec["egress"][1]["ports"].as_array().unwrap().iter().map(|p| p["protocol"].clone()).collect();
    assert_eq!(protocols, ["UDP", "TCP"]);
}

#[test]
fn settings_extend_the_default_rules() {
    let spec = spec(&NetworkSettings {
        router_namespaces: vec!["routers".to_owned(), "team".to_owned()],
        egress_except: vec!["203.0.112.0/24".to_owned(), "2606:4700::/32".to_owned(), "10.0.0.0/8".to_owned()],
        egress_allow: vec!["10.1.0.0/16".to_owned(), "64:ff9b::/96".to_owned()],
    });
    for text in ["203.0.112.10", "2606:4700::1111", "10.2.0.1", "64:ff9b:1::1"] {
        assert!(!admits(&spec, address(text), 443), "{text}");
    }
    for text in ["203.0.111.10", "10.1.0.1", "64:ff9b::808:808"] {
        assert!(admits(&spec, address(text), 443), "{text}");
    }
    let namespaces: Vec<_> = spec["ingress"][0]["from"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| {
            assert_eq!(peer["podSelector"]["matchLabels"]["app"], "sandbox-router");
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].clone()
        })
        .collect();
    assert_eq!(namespaces, ["routers", "team"]);
}

#[test]
fn without_a_router_namespace_nobody_is_admitted() {
    let none = NetworkSettings { router_namespaces: Vec::new(), ..NetworkSettings::default() };
    assert_eq!(spec(&none)["ingress"], json!([]));
}
