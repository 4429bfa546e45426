//! A partition that a configuration was saved in, or something else: what is found there is used or
//! refused, and what is saved over it is found again.

use basalt_bdev::Access;
use basalt_bdev::malloc::{self, MallocOptions};
use basalt_bdev::vbdev::{Vbdevs, gpt, passthru};
use basalt_nvmf::pdu::crc32c;
use basalt_rpc::{Config, Keeper, Router, Rpc, State, methods};
use serde_json::json;

use super::gpt_table::{BLOCKS, crc, entry, header, put};
use crate::input::Input;
use crate::machine::Machine;
use crate::seed::Seed;

/// The partition.
const FIRST: u64 = 64;
/// Blocks of a slot, of which there are two, and those of them that its header is in.
const SLOT: u64 = 64;
const HEAD: u64 = 8;

/// Byte 0: whether the checksums of the texts are put into the headers (bit 0), and those of the
/// headers are renewed (1), and whether a configuration is handed over (2). Then records: header
/// and text of either slot, and that configuration.
pub fn run(bytes: &[u8]) {
    let (slots, handed_over) = read(&mut Input::new(bytes));
    let mut machine = Machine::new(1);
    partition(&mut machine, &slots);
    let found = start(&mut machine, handed_over);
    let texts = slots.iter().map(|(_, text)| text.as_slice()).chain([handed_over, &[]]);
    let is_known = |text: &[u8]| Config::parse(text).text() == found.text();
    assert!(texts.into_iter().any(is_known), "it is what was saved, what was handed over, or none");
    save_and_start_again(&mut machine);
}

/// Header and text of a slot.
type Contents = (Vec<u8>, Vec<u8>);

/// Both slots, and what is handed over.
fn read<'a>(input: &mut Input<'a>) -> ([Contents; 2], &'a [u8]) {
    let mode = input.byte();
    let slots = [0, 1].map(|_| {
        let (mut header, text) = (input.record().to_vec(), input.record().to_vec());
        if mode & 1 != 0 && header.len() >= 64 {
            header[12..16].copy_from_slice(&(text.len() as u32).to_le_bytes());
            header[24..28].copy_from_slice(&crc32c(&text).to_le_bytes());
        }
        if mode & 2 != 0 && header.len() >= 64 {
            let sum = crc32c(&header[..60]);
            header[60..64].copy_from_slice(&sum.to_le_bytes());
        }
        (header, text)
    });
    let handed_over = if mode & 4 != 0 { input.record() } else { &[] };
    (slots, handed_over)
}

/// Whatever was there, what is saved is found at the next start.
fn save_and_start_again(machine: &mut Machine) {
    let mut router = Router::new();
    methods::register_all(&mut router);
    let rpc = Rpc::start(&machine.local(0), router, State::Runtime);
    let ram = json!({"name": "Ram0", "num_blocks": 8, "block_size": 512});
    let saved = machine.wait_for(
        async move {
            rpc.call("bdev_malloc_create", Some(ram)).await.unwrap();
            rpc.call("framework_save_config", None).await
        },
        || {},
    );
    assert_eq!(saved.unwrap()["bdev_name"], "Seenp1");
    let again = start(machine, &[]);
    assert!(again.is_whole());
    assert_eq!(again.len(), 2, "a bdev, and the wait for its partitions");
}

fn start(machine: &mut Machine, handed_over: &[u8]) -> Config {
    let (local, config) = (machine.local(0), Config::parse(handed_over));
    machine.wait_for(async move { Keeper::start(&local, config).await }, || {})
}

/// Has a disk examined that has the partition, with these headers and texts in it.
fn partition(machine: &mut Machine, slots: &[Contents; 2]) {
    let options = MallocOptions {
        name: Some("Base".into()),
        num_blocks: BLOCKS,
        block_size: 512,
        ..MallocOptions::default()
    };
    malloc::create(&machine.registry, options).unwrap();
    let mut entries = entry(kind(), 1, FIRST, FIRST + 2 * SLOT - 1).to_vec();
    entries.resize(512, 0);
    let mut table = header(1, BLOCKS - 1, 2);
    table[88..92].copy_from_slice(&crc(&entries));
    let sum = crc(&table);
    table[16..20].copy_from_slice(&sum);
    let disk = machine.registry.open("Base", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&machine.local(0)).unwrap();
    let [(one, one_text), (other, other_text)] = slots;
    let places = [
        (1, &table),
        (2, &entries),
        (FIRST, one),
        (FIRST + HEAD, other),
        (FIRST + 2 * HEAD, one_text),
        (FIRST + SLOT + HEAD, other_text),
    ];
    for (lba, bytes) in places {
        put(machine, &mut channel, lba, bytes, 512);
    }
    drop((channel, disk));
    let local = machine.local(0);
    gpt::Examiner::start(&local);
    // A face of it that comes now is examined.
    let vbdevs = Vbdevs::of(&local).unwrap();
    vbdevs.create(passthru::recipe("Seen", "Base", None)).unwrap();
    machine.wait_for(async move { gpt::Examiner::settled(&local).await }, || {});
}

/// The partition's type as it is in the table.
fn kind() -> [u8; 16] {
    let mut kind = gpt::CONFIG_KIND;
    kind[..4].reverse();
    kind[4..6].reverse();
    kind[6..8].reverse();
    kind
}

/// Two texts, of which the second is the newer one, alone and beside one that was handed over.
pub fn seeds() -> Vec<Seed> {
    let header = |generation: u8, handed_over: &[u8]| {
        let mut header = vec![0; 64];
        header[..12].copy_from_slice(b"BASALTCF\x01\0\0\0");
        header[16] = generation;
        header[28..32].copy_from_slice(&(handed_over.len() as u32).to_le_bytes());
        header[32..36].copy_from_slice(&crc32c(handed_over).to_le_bytes());
        header
    };
    [(3, &b""[..]), (7, b"{\"subsystems\": []}"), (7, b"{}")]
        .map(|(mode, handed_over)| {
            let (old, new) = (header(1, &[]), header(2, b"{}"));
            let seed = Seed::starting(&[mode]).record(&old).record(b"{\"old\": 1}");
            seed.record(&new).record(b"{\"subsystems\": null}").record(handed_over)
        })
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_read_as_what_they_are() {
        let texts = ["{\"subsystems\": null}", "{\"subsystems\": []}", "{\"subsystems\": null}"];
        for (seed, text) in seeds().iter().zip(texts) {
            let mut input = Input::new(&seed.bytes);
            let (slots, handed_over) = read(&mut input);
            let mut machine = Machine::new(1);
            partition(&mut machine, &slots);
            assert_eq!(start(&mut machine, handed_over).text(), text.as_bytes());
        }
    }
}
