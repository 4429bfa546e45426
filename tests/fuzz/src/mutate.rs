use crate::random::Random;
use crate::seed::Seed;

/// Longest input made.
const LEN_MAX: usize = 24 << 10;
/// Most changes of one input.
const CHANGES_MAX: usize = 6;
/// Values that are at the edge of something.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    u64::MAX,
];

/// One of `seeds`, changed in a few places.
pub fn mutate(random: &mut Random, seeds: &[Seed]) -> Vec<u8> {
    let seed = &seeds[random.below(seeds.len())];
    let mut changed = seed.clone();
    for _ in 0..1 + random.below(CHANGES_MAX) {
        match random.below(3) {
            0 => move_parts(random, &mut changed, seeds),
            _ => change_bytes(random, &mut changed.bytes),
        }
    }
    changed.bytes.truncate(LEN_MAX);
    changed.bytes
}

/// Doubles, drops, exchanges or borrows whole parts.
fn move_parts(random: &mut Random, seed: &mut Seed, seeds: &[Seed]) {
    let head = seed.cuts.first().copied().unwrap_or(0).min(seed.bytes.len());
    let mut parts: Vec<Vec<u8>> = seed
        .parts()
        .into_iter()
        .filter_map(|range| seed.bytes.get(range).map(<[u8]>::to_vec))
        .collect();
    if parts.is_empty() {
        return;
    }
    let (one, other) = (random.below(parts.len()), random.below(parts.len()));
    match random.below(5) {
        0 => parts.insert(other, parts[one].clone()),
        1 => drop(parts.remove(one)),
        2 => parts.swap(one, other),
        3 => {
            let donor = &seeds[random.below(seeds.len())];
            let ranges = donor.parts();
            let range = ranges[random.below(ranges.len())].clone();
            parts.insert(one, donor.bytes[range].to_vec());
        }
        _ => parts.truncate(one + 1),
    }
    let mut bytes = seed.bytes[..head].to_vec();
    seed.cuts.clear();
    for part in parts {
        seed.cuts.push(bytes.len());
        bytes.extend(part);
    }
    seed.bytes = bytes;
}

fn change_bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(random.number() as u8);
    }
    let at = random.below(bytes.len());
    let len = (1 + random.below(16)).min(bytes.len() - at);
    match random.below(10) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.number() as u8,
        3 | 4 => put(random, bytes, at),
        5 => step(random, bytes, at),
        6 => drop(bytes.drain(at..at + len)),
        7 => {
            let copy = bytes[at..at + len].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, copy);
        }
        8 => bytes[at..at + len].iter_mut().for_each(|byte| *byte = random.number() as u8),
        _ if random.below(4) == 0 => bytes.truncate(at),
        _ => bytes.insert(at, random.number() as u8),
    }
}

/// Puts a value at the edge of something in place of 1, 2, 4 or 8 bytes, in either order.
fn put(random: &mut Random, bytes: &mut [u8], at: usize) {
    let value = random.pick(&EDGES).wrapping_add_signed(random.below(3) as i64 - 1);
    let len = random.pick(&[1, 2, 4, 8]);
    write(random, &mut bytes[at..], value, len);
}

/// Adds a little to a number of 1, 2, 4 or 8 bytes.
fn step(random: &mut Random, bytes: &mut [u8], at: usize) {
    let len = random.pick(&[1, 2, 4, 8]);
    let mut number = [0; 8];
    let there = &bytes[at..bytes.len().min(at + len)];
    number[..there.len()].copy_from_slice(there);
    let value = u64::from_le_bytes(number).wrapping_add_signed(random.below(33) as i64 - 16);
    bytes[at..].iter_mut().zip(value.to_le_bytes()).take(len).for_each(|(to, byte)| *to = byte);
}

fn write(random: &mut Random, to: &mut [u8], value: u64, len: usize) {
    let mut number = value.to_le_bytes();
    if random.below(2) == 0 {
        number[..len].reverse();
    }
    to.iter_mut().zip(number).take(len).for_each(|(to, byte)| *to = byte);
}
