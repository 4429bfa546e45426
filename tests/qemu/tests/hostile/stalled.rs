//! Clients that stop in the middle: they send nothing, read nothing, or vanish.

use std::time::{Duration, Instant};

use basalt_qemu_tests::initiator::command::{self, Connect};
use basalt_qemu_tests::initiator::pdu::{self, get16};
use basalt_qemu_tests::initiator::{Data, Initiator, Queue};

use crate::siege::{on_both, tcp};

/// The handshake may take 10 seconds.
const EVICTION: Duration = Duration::from_secs(15);

#[test]
fn connections_that_say_nothing_are_ended_in_bounded_time() {
    on_both(|siege| {
        let mut silent: Vec<Queue> = Vec::new();
        silent.extend((0..20).map(|_| Queue::open(siege.nvmf).unwrap()));
        silent.extend((0..10).map(|_| Queue::open(siege.discovery).unwrap()));
        silent.extend((0..10).map(|_| Queue::greet(siege.nvmf).unwrap()));
        for _ in 0..10 {
            let mut half = Queue::open(siege.nvmf).unwrap();
            half.send(&pdu::ic_req()[..100]).unwrap();
            silent.push(half);
        }
        let deadline = Instant::now() + EVICTION;
        for queue in &mut silent {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(queue.ends_within(left), "a silent connection is still there");
        }
    });
}

#[test]
fn clients_that_never_read_do_not_stall_others() {
    on_both(|siege| {
        let mut stalled: Vec<Initiator> =
            (0..4).map(|_| Initiator::connect(siege.nvmf).unwrap()).collect();
        let mebibyte = || command::io(command::READ, 1, 0, 2048);
        for host in &mut stalled {
            for _ in 0..120 {
                host.io.submit(mebibyte(), Data::ToHost(1 << 20)).unwrap();
            }
        }
        // Long enough for every buffer on the way to be full.
        std::thread::sleep(Duration::from_secs(5));
        let mut newcomer = Initiator::connect(siege.nvmf).unwrap();
        let on = newcomer.namespaces().unwrap()[0];
        let began = Instant::now();
        newcomer.verify(on, 64, 1 << 20, 3).unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        drop((stalled, newcomer));
    });
}

#[test]
fn connections_cut_off_in_mid_transfer_leave_nothing_behind() {
    on_both(|siege| {
        for round in 0..20 {
            let mut host = Initiator::connect(siege.nvmf).unwrap();
            for _ in 0..8 {
                let read = command::io(command::READ, 1, 0, 2048);
                host.io.submit(read, Data::ToHost(1 << 20)).unwrap();
            }
            // A write that was asked for and only half sent.
            let data = vec![round; 256 << 10];
            let write = command::io(command::WRITE, 1, 8192, 512);
            let mut other = Queue::greet(siege.nvmf).unwrap();
            assert_eq!(other.connect(&Connect::io(host.cntlid, 2)).unwrap().status, command::OK);
            let cid = other.submit(write, Data::FromHost(&data)).unwrap();
            let r2t = other.receive().unwrap();
            assert_eq!(r2t.kind(), pdu::R2T);
            let part = pdu::h2c_data(cid, get16(&r2t.header, 10), 0, true, &data);
            other.send(&part[..part.len() / 2]).unwrap();
            if round % 2 == 0 {
                host.io.receive().unwrap();
            }
            // What is left unread makes the end of each of them a reset.
            drop((other, host));
        }
    });
}

#[test]
fn a_writer_that_owes_its_data_keeps_nobody_waiting() {
    on_both(|siege| {
        let mut owing: Vec<Initiator> =
            (0..4).map(|_| Initiator::connect(siege.nvmf).unwrap()).collect();
        for host in &mut owing {
            for _ in 0..120 {
                let write = command::io(command::WRITE, 1, 8192, 2048);
                host.io.submit(write, Data::FromHost(&vec![0; 1 << 20])).unwrap();
            }
        }
        std::thread::sleep(Duration::from_secs(2));
        let mut newcomer = Initiator::connect(siege.nvmf).unwrap();
        let on = newcomer.namespaces().unwrap()[0];
        newcomer.verify(on, 64, 1 << 20, 4).unwrap();
        drop((owing, newcomer));
    });
}

#[test]
fn half_a_megabyte_of_garbage_after_an_error_is_swallowed() {
    on_both(|siege| {
        for _ in 0..4 {
            let mut stream = tcp(siege.nvmf).unwrap();
            // The target may well close before all of it is sent.
            let _ = std::io::Write::write_all(&mut stream, &vec![0xff; 512 << 10]);
        }
    });
}
