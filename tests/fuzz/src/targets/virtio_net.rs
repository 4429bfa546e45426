//! The driver of virtio network cards on one that lies: in its registers and capabilities, its used
//! rings, and the headers of frames.

use std::cell::Cell;
use std::time::Duration;

use basalt_env::{CoreId, Instant};
use basalt_models::lies::Lies;
use basalt_models::virtio_net::{VirtioNetModel, feature};
use basalt_virtio_net::VirtioNet;

use crate::input::Input;
use crate::machine::{self, Machine};
use crate::seed::Seed;

/// Things done in a run at most.
const TURNS_MAX: usize = 64;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// Byte 0: features. A record of lies it tells while it is brought up. Then turns.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let features = match input.byte() & 3 {
        0 => feature::ALL,
        1 => feature::VERSION_1,
        2 => feature::ALL & !feature::MRG_RXBUF,
        _ => feature::ALL & !(feature::CSUM | feature::GUEST_CSUM | feature::GUEST_TSO4),
    };
    let pool = Machine::new(1).pools[0].clone();
    let model = VirtioNetModel::new(machine::bus(), MAC).with_features(features);
    model.lie(Lies::new(input.record()));
    let now = Cell::new(Instant::ZERO);
    let clock = || {
        now.set(now.get() + Duration::from_millis(1));
        now.get()
    };
    let Ok(mut card) = VirtioNet::bring_up(model.device(), &pool, &clock, CoreId::BOOT) else {
        return;
    };
    assert!(card.mtu() >= 68, "{}", card.mtu());
    for _ in 0..TURNS_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(4) {
            0 => model.inject(vec![input.byte(); usize::from(input.word() & 0x0fff)]),
            1 => {
                let len = (14 + usize::from(input.word())).min(card.mtu() + 14);
                let _ = card.transmit(len, |frame| {
                    assert_eq!(frame.len(), len);
                    frame.fill(3);
                    None
                });
                card.commit();
            }
            2 => model.lie(Lies::new(input.record())),
            _ => {
                let _ = card.poll();
                while let Some(frame) = card.receive() {
                    assert!(frame.len() <= 1 << 17, "{}", frame.len());
                    card.recycle(frame);
                }
                card.commit();
            }
        }
        let _ = (card.link_up(), card.failure(), card.stats());
    }
}

/// Cards with all features and with few, honest ones.
pub fn seeds() -> Vec<Seed> {
    let turns = |seed: Seed| {
        seed.part(&[0, 7, 100, 0])
            .part(&[3])
            .part(&[1, 100, 0])
            .part(&[0, 8, 0xff, 0x0f])
            .part(&[1, 0, 4])
            .part(&[3])
    };
    let lies = |len: usize| [&(len as u16).to_le_bytes()[..], &vec![0; len]].concat();
    (0..4)
        .map(|features| {
            let seed = Seed::starting(&[features]).part(&lies(200));
            let seed = turns(seed).part(&[&[2][..], &lies(40)].concat());
            turns(turns(seed))
        })
        .collect()
}
