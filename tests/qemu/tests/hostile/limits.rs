//! More of everything than there is room for: it queues or is refused, and all comes back.

use std::thread;

use basalt_qemu_tests::initiator::{Initiator, Queue};

use crate::siege::{on_the_twin, tcp};

#[test]
fn ten_thousand_connections_in_a_row_are_all_served() {
    on_the_twin(|siege| {
        for count in 0..10_000 {
            match count % 8 {
                0..4 => drop(tcp(siege.nvmf).unwrap()),
                4..7 => drop(Queue::greet(siege.nvmf).unwrap()),
                _ => drop(Initiator::enabled(siege.nvmf).unwrap()),
            }
        }
    });
}

#[test]
fn sixty_four_clients_at_once_get_all_they_ask_for() {
    on_the_twin(|siege| {
        let port = siege.nvmf;
        let client = move |number: u64| {
            let mut host = Initiator::connect(port).unwrap();
            let on = host.namespaces().unwrap()[0];
            // Ranges of their own, behind the bystander's.
            for turn in 0..4 {
                host.verify(on, 65_536 + number * 1024, 256 << 10, number * 100 + turn).unwrap();
            }
        };
        let clients: Vec<_> = (0..64).map(|number| thread::spawn(move || client(number))).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}
