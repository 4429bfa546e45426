//! Many connections, one after another.

use basalt_qemu_tests::initiator::{Initiator, Queue};

use crate::siege::{on_both, tcp};

#[test]
fn two_hundred_connections_in_a_row_are_all_served() {
    on_both(|siege| {
        for count in 0..200 {
            match count % 4 {
                0 => drop(tcp(siege.nvmf).unwrap()),
                1 => drop(Queue::greet(siege.nvmf).unwrap()),
                2 => drop(Initiator::enabled(siege.nvmf).unwrap()),
                _ => {
                    let mut host = Initiator::connect(siege.nvmf).unwrap();
                    let on = host.namespaces().unwrap()[0];
                    host.verify(on, 10_000, 4096, count).unwrap();
                }
            }
        }
    });
}
