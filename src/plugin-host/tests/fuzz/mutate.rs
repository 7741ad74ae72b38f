//! Damages the bytes of real components.

use fastrand::Rng;

/// A section of a component: its bytes with the number and the length in front.
type Section = Vec<u8>;

/// The first eight bytes of a component, and its sections. The rest of bytes that do not parse is the last section.
fn sections(component: &[u8]) -> (Vec<u8>, Vec<Section>) {
    let (head, mut rest) = component.split_at(component.len().min(8));
    let mut found = vec![];
    while !rest.is_empty() {
        let end = section_end(rest).filter(|end| *end <= rest.len()).unwrap_or(rest.len());
        let (section, after) = rest.split_at(end);
        found.push(section.to_vec());
        rest = after;
    }
    (head.to_vec(), found)
}

/// The end of the section at the beginning of these bytes: a number, a length in LEB128, and so many bytes.
fn section_end(bytes: &[u8]) -> Option<usize> {
    let mut length = 0_u64;
    for (at, byte) in bytes.iter().enumerate().skip(1).take(5) {
        length |= u64::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return usize::try_from(length).ok()?.checked_add(at + 1);
        }
    }
    None
}

/// One of the damages, or several of them.
pub(crate) fn mutated(random: &mut Rng, component: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    for _ in 0..random.usize(1..=3) {
        bytes = once(random, bytes, other);
    }
    bytes
}

fn once(random: &mut Rng, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    match random.u32(0..10) {
        0 => bytes.truncate(random.usize(0..bytes.len())),
        1 | 2 => {
            for _ in 0..random.usize(1..=8) {
                let at = random.usize(0..bytes.len());
                bytes[at] ^= 1 << random.u32(0..8);
            }
        }
        3 => {
            let start = random.usize(0..bytes.len());
            let end = (start + random.usize(1..=64)).min(bytes.len());
            bytes[start..end].iter_mut().for_each(|byte| *byte = random.u8(..));
        }
        4 => {
            let at = random.usize(0..=bytes.len());
            let added: Vec<u8> = (0..random.usize(1..=16)).map(|_| random.u8(..)).collect();
            bytes.splice(at..at, added);
        }
        5 => {
            let start = random.usize(0..bytes.len());
            let end = (start + random.usize(1..=256)).min(bytes.len());
            bytes.drain(start..end);
        }
        // A name of the package is replaced by another one of the same length.
        6 => {
            let (from, to) = [
                ("0.1.0", "0.2.0"),
                ("0.1.0", "9.9.9"),
                ("settings", "pool-siz"),
                ("pool-size", "admission"),
                ("idle", "type"),
                ("paddock", "padlock"),
                ("decide", "decidE"),
                ("validate-settings", "validate-setting\0"),
                ("cabi_realloc", "cabi_reallol"),
                ("memory", "memorx"),
            ][random.usize(0..10)];
            rename(&mut bytes, from.as_bytes(), to.as_bytes());
        }
        _ => return with_other_sections(random, &bytes, other),
    }
    bytes
}

/// Moves, repeats or removes a section, or takes one of another component.
fn with_other_sections(random: &mut Rng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let (head, mut found) = sections(bytes);
    if found.is_empty() {
        return head;
    }
    let (one, two) = (random.usize(0..found.len()), random.usize(0..found.len()));
    match random.u32(0..5) {
        0 | 1 => found.swap(one, two),
        2 => {
            found.remove(one);
        }
        3 => found.insert(one, found[two].clone()),
        _ => {
            let (_, others) = sections(other);
            let section = random.choice(others).unwrap_or_default();
            found.insert(one, section);
        }
    }
    [head, found.concat()].concat()
}

fn rename(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
}

#[test]
fn sections_of_a_component_are_all_of_it() {
    for component in [paddock_guests::POOL_FIXED, paddock_guests::MISBEHAVE, b"\0asm\x0d\0\x01\0\0", b"\0"] {
        let (head, found) = sections(component);
        assert_eq!([head, found.concat()].concat(), component);
    }
    assert!(sections(paddock_guests::POOL_FIXED).1.len() > 5);
}
