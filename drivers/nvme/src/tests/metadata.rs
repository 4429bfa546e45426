//! Formats whose blocks carry more than the eight bytes a controller adds by itself.

use alloc::string::String;
use alloc::vec;

use basalt_models::nvme::{MetadataPlace, NamespaceConfig};
use basalt_nvme_spec::Status;
use basalt_nvme_spec::identify::Oncs;

use super::*;
use crate::RejectReason;

const PLACES: [MetadataPlace; 2] = [MetadataPlace::Separate, MetadataPlace::InLine];

fn formatted(block: u32, size: u16, place: MetadataPlace, protection: u8) -> Ready {
    let namespace = NamespaceConfig::new(1, block, 1 << 21 >> block.trailing_zeros());
    let mut namespace = namespace.with_metadata(size, place);
    if protection > 0 {
        namespace = namespace.protected(protection);
    }
    let oncs = Oncs::all();
    Ready::new(Config { namespaces: vec![namespace], oncs, ..Config::default() }, 32)
}

/// All formats: bytes of a block, of its metadata, where that is, type of protection.
fn all() -> impl Iterator<Item = (u32, u16, MetadataPlace, u8)> {
    let with = |(block, size), place, protection| (block, size, place, protection);
    let sizes = [(512, 8), (512, 16), (512, 64), (4096, 16), (4096, 64)];
    sizes.into_iter().flat_map(move |format| {
        let places = PLACES.into_iter();
        places.flat_map(move |place| (0..=3).map(move |kind| with(format, place, kind)))
    })
}

#[test]
fn data_is_kept_with_every_format() {
    for (block, size, place, kind) in all() {
        let mut ready = formatted(block, size, place, kind);
        let what = std::format!("{block}+{size} {place:?} type {kind}");
        ready.bench.model.fill_metadata(1, 0x77);
        let block = block as usize;
        for (lba, blocks) in [(0, 1), (3, 2), (10, 16), (64, 32)] {
            let data = ready.bench.buffers(&[blocks * block], lba as u8);
            assert!(ready.write(lba, data).is_success(), "{what}");
            let (read, status) = ready.read(lba, &[blocks * block]);
            assert!(status.is_success() && read == vec![lba as u8; blocks * block], "{what}");
            let metadata = ready.bench.model.metadata(1);
            let range =
                lba as usize * usize::from(size)..(lba as usize + blocks) * usize::from(size);
            assert!(metadata[range].iter().all(|byte| *byte == 0), "{what}: zeroes with the data");
        }
        let others = ready.bench.model.metadata(1)[usize::from(size)];
        assert_eq!(others, 0x77, "{what}: nobody else's");
        ready.queue.write_zeroes(&ready.ns, 11, 2, (0, vec![])).unwrap();
        assert!(ready.bench.drain(&mut ready.queue)[0].1.is_success(), "{what}");
        assert_eq!(ready.read(11, &[2 * block]).0, vec![0; 2 * block], "{what}");
        assert_eq!(ready.bench.model.violations(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn buffers_that_meet_within_a_block_are_described_between_metadata() {
    for (lens, place) in [[512 * 3 - 100, 100 + 512], [4, 2044]]
        .into_iter()
        .flat_map(|lens| PLACES.map(|place| (lens, place)))
    {
        let mut ready = formatted(512, 16, place, 1);
        let mut data = ready.bench.buffers(&lens, 0);
        for (value, buf) in (1..).zip(&mut data) {
            buf.as_mut_slice().fill(value);
        }
        assert!(ready.write(7, data).is_success());
        let (read, status) = ready.read(7, &lens);
        assert!(status.is_success());
        assert!(read[..lens[0]].iter().all(|byte| *byte == 1));
        assert!(read[lens[0]..].iter().all(|byte| *byte == 2));
        let expected = [vec![1; lens[0]], vec![2; lens[1]]].concat();
        assert_eq!(ready.bench.model.contents(1, 7, 2048), expected);
        assert_eq!(ready.bench.model.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_transfer_is_no_longer_than_there_is_room_for_metadata() {
    for (place, most) in [(MetadataPlace::Separate, 64), (MetadataPlace::InLine, 64)] {
        let mut ready = formatted(512, 64, place, 0);
        assert_eq!(ready.ns.transfer_max(1 << 20), most * 512, "{place:?}");
        let data = ready.bench.buffers(&[(most as usize + 1) * 512], 1);
        let refused = ready.queue.write(&ready.ns, 0, most as u32 + 1, (0, data)).unwrap_err();
        assert_eq!(refused.reason, RejectReason::MaxTransfer);
        let data = ready.bench.buffers(&[most as usize * 512], 1);
        assert!(ready.write(0, data).is_success());
    }
    // What lies in line counts as data of the command.
    let mut config = Config { mdts: 1, ..Config::default() };
    let namespace = NamespaceConfig::new(1, 512, 64).with_metadata(64, MetadataPlace::InLine);
    config.namespaces = vec![namespace];
    let mut ready = Ready::new(config, 32);
    let most = ready.ns.transfer_max(8192) as usize;
    assert_eq!(most, 8192 / 576 * 512);
    let data = ready.bench.buffers(&[most], 1);
    assert!(ready.write(0, data).is_success());
}

#[test]
fn more_metadata_than_protection_is_protected_all_the_same() {
    for place in PLACES {
        let mut ready = formatted(512, 16, place, 1);
        let data = ready.bench.buffers(&[4096], 1);
        assert!(ready.write(40, data).is_success());
        ready.bench.model.flip_bit(1, 42 * 512);
        assert_eq!(ready.read(40, &[4096]).1.sc(), Status::GUARD_CHECK.sc());
    }
}

#[test]
fn blocks_with_metadata_of_their_own_are_not_compared_by_the_controller() {
    let mut ready = formatted(512, 16, MetadataPlace::Separate, 0);
    let data = ready.bench.buffers(&[512], 0);
    let refused = ready.queue.compare(&ready.ns, 0, 1, (0, data)).unwrap_err();
    assert_eq!(refused.reason, RejectReason::Unsupported);
}
