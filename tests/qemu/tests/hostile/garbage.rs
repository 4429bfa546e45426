//! Bytes that mean nothing, and sessions in which some do not mean what they should. The seed is
//! fixed: a failure can be had again.

use std::time::Duration;

use basalt_qemu_tests::initiator::command::{self, Connect};
use basalt_qemu_tests::initiator::{IN_CAPSULE, Queue, Random, TRANSPORT, pattern, pdu, point};

use crate::siege::on_both;

const SEED: u64 = 0x00ba_5a17;
const CONNECTIONS: u64 = 300;

#[test]
fn hundreds_of_connections_that_send_garbage_change_nothing() {
    on_both(|siege| {
        let mut random = Random::new(SEED);
        for count in 0..CONNECTIONS {
            let bytes = match count % 4 {
                0 => pattern(SEED + count, random.below(3000)),
                1 => [pdu::ic_req(), pattern(SEED + count, random.below(3000))].concat(),
                2 => plausible(&mut random, count),
                _ => mutated(&mut random),
            };
            let mut queue = Queue::open(siege.nvmf).unwrap();
            // The target may end the connection at any byte.
            let _ = queue.send(&bytes);
            if count % 8 < 4 {
                queue.ends_within(Duration::from_millis(20));
            }
        }
    });
}

/// A greeting and then headers whose common part is right, with noise in the rest.
fn plausible(random: &mut Random, count: u64) -> Vec<u8> {
    let mut bytes = pdu::ic_req();
    for piece in 0..4 {
        let (kind, hlen) = [(pdu::CAPSULE_CMD, 72), (pdu::H2C_DATA, 24)][random.below(2)];
        let noise = pattern(SEED ^ count << 8 ^ piece, random.below(9000));
        let mut header = pdu::header(kind, hlen, noise.len());
        let rest = pattern(SEED + count + piece, usize::from(hlen) - 8);
        header[8..].copy_from_slice(&rest);
        bytes.extend(header);
        bytes.extend(noise);
    }
    bytes
}

/// A session as it should be with up to four bytes changed.
fn mutated(random: &mut Random) -> Vec<u8> {
    let connect = Connect::admin();
    let mut command = connect.command();
    point(&mut command, 1024, IN_CAPSULE);
    let mut enable = command::property_set(0x14, 0x0046_0001);
    let mut identify = command::identify(1, 0);
    (enable[2], identify[2]) = (1, 2);
    point(&mut identify, 4096, TRANSPORT);
    let mut bytes = [
        pdu::ic_req(),
        pdu::capsule(&command, &connect.data()),
        pdu::capsule(&enable, &[]),
        pdu::capsule(&identify, &[]),
    ]
    .concat();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        bytes[at] = random.number() as u8;
    }
    bytes
}
