//! Machines with cards of their own.

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use basalt_models::virtio_net::{Segment, WirePlan, feature};
use basalt_nvmf_pdu::Digests;

use super::*;

/// Two machines of one core, with cards of these features and a wire between them.
fn with_cards(features: u64, disk: Arc<dyn Bdev>) -> Two {
    let mut models = Vec::new();
    let mut side = |address: Ipv4Addr| {
        Side::new(1, address, |local, machine, pool| {
            let mac = [2, 0, 0, 0, 1, address.octets()[3]];
            let model = VirtioNetModel::new(machine.bus(), mac).with_features(features);
            models.push(model.clone());
            let clock = || Instant::ZERO;
            let up = pin!(basalt_net::bring_up(local, model.device(), pool, &clock, None));
            let Poll::Ready(card) = up.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("one core has nobody to wait for")
            };
            card.unwrap()
        })
    };
    let (host, far) = (side(INITIATOR), side(TARGET));
    let wire = (Wire::new(WirePlan::default(), 5), models.try_into().ok().unwrap());
    let config = TransportConfig::default();
    let mut two = Two { wire: Some(wire), ..Two::of(host, far, config) };
    two.serve(config, SubsystemOptions::default(), disk);
    two
}

/// How many of the bytes that the card read were in each of `buffers`, and how many elsewhere.
fn sort(sources: &[Segment], buffers: &[(u64, usize)]) -> (Vec<usize>, usize) {
    let (mut inside, mut elsewhere) = (alloc::vec![0; buffers.len()], 0);
    for source in sources {
        let at = source.address.as_u64();
        let is_in = |&(start, len): &(u64, usize)| (start..start + len as u64).contains(&at);
        match buffers.iter().position(is_in) {
            Some(buffer) => inside[buffer] += source.len,
            None => elsewhere += source.len,
        }
    }
    (inside, elsewhere)
}

#[test]
fn a_card_that_completes_checksums_takes_what_is_read_from_the_bdevs_buffer() {
    let plain = feature::VERSION_1 | feature::MAC;
    for features in [plain, plain | feature::CSUM, feature::ALL] {
        for digests in [Digests::default(), Digests { header: true, data: true }] {
            let drive = Arc::new(Disk::new(512, 8192));
            let shared = Arc::clone(&drive.shared);
            let bytes = (0..4 << 20).map(|at: u32| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8);
            *shared.bytes.lock() = bytes.collect();
            let mut two = with_cards(features, drive);
            let options = RemoteOptions { digests, ..two.options() };
            two.attach(options).unwrap();
            two.pass(Duration::from_millis(50));
            let idle = two.far.in_use();
            let mut channel = two.channel(0);
            let card = two.wire.as_ref().unwrap().1[1].clone();
            let reads = [(0, 8, 1), (8, 8, 2), (100, 256, 3), (4000, 2, 4), (5000, 33, 5)];
            shared.reads.lock().clear();
            card.take_sources();
            for (lba, blocks, tag) in reads {
                channel.submit(two.read(0, lba, blocks, tag)).unwrap();
            }
            let ended = two.drain(&mut channel, reads.len());
            for (io, (lba, blocks, _)) in ended.iter().zip(reads) {
                let all = shared.bytes.lock();
                let range = lba as usize * 512..(lba as usize + blocks as usize) * 512;
                assert!(io.status.is_ok() && io.data.as_slice()[0].as_slice() == &all[range]);
            }
            let buffers = shared.reads.lock().clone();
            let (inside, elsewhere) = sort(&card.take_sources(), &buffers);
            let lens: Vec<_> = buffers.iter().map(|(_, len)| *len).collect();
            if features == plain {
                // The processor goes through it for the checksum, and copies it meanwhile.
                let (all, frames) = (lens.iter().sum::<usize>(), elsewhere);
                assert!(inside.iter().all(|len| *len == 0) && frames > all && frames < 2 * all);
            } else {
                assert_eq!(inside, lens);
                assert!(elsewhere < 20_000, "{elsewhere} bytes of headers");
            }
            assert_eq!(card.refused(), 0);
            two.pass(Duration::from_millis(50));
            assert_eq!(two.far.in_use(), idle, "all buffers are back");
        }
    }
}

#[test]
fn a_remote_bdev_behaves_as_every_bdev_does_over_cards() {
    let mut two = with_cards(feature::ALL, disk());
    let options = two.options();
    two.attach(options).unwrap();
    let descriptor = two.open("Nvme0n1");
    suite::run(&mut two, &descriptor, suite::Medium::Keeps);
}
