use alloc::string::{String, ToString};

use super::Cores;
use crate::malloc::{self, MallocOptions};
use crate::null::{self, NullOptions};
use crate::suite::{self, Medium};
use crate::{Access, CreateError, Io, Op, RegisterError, SgList};

fn malloc_options(block_size: u32, num_blocks: u64) -> MallocOptions {
    MallocOptions { block_size, num_blocks, ..MallocOptions::default() }
}

#[test]
fn a_ram_disk_behaves_with_every_block_size() {
    for block_size in [512, 1024, 2048, 4096] {
        let mut cores = Cores::new(1);
        malloc::create(&cores.registry, malloc_options(block_size, 100)).unwrap();
        let disk = cores.registry.open("Malloc0", Access::ReadWrite).unwrap();
        suite::run(&mut cores, &disk, Medium::Keeps);
    }
}

#[test]
fn a_null_bdev_behaves_but_for_keeping_data() {
    let mut cores = Cores::new(1);
    let options = NullOptions { block_size: 512, num_blocks: 100, ..NullOptions::default() };
    null::create(&cores.registry, options).unwrap();
    let disk = cores.registry.open("Null0", Access::ReadWrite).unwrap();
    suite::run(&mut cores, &disk, Medium::Forgets);
}

#[test]
fn one_core_reads_what_another_wrote_to_a_ram_disk() {
    let mut cores = Cores::new(2);
    malloc::create(&cores.registry, malloc_options(512, 64)).unwrap();
    let disk = cores.registry.open("Malloc0", Access::ReadWrite).unwrap();
    let mut writer = disk.channel(&cores.core(0)).unwrap();
    let mut reader = disk.channel(&cores.core(1)).unwrap();

    let mut buf = cores.pool.alloc(1024).unwrap();
    buf.as_mut_slice().fill(0x5a);
    writer.submit(Io::with_data(Op::Write, 7, 2, SgList::One(buf), 0)).unwrap();
    assert_eq!(writer.poll(|io| assert_eq!(io.status, Ok(()))).0, 1);
    cores.round();

    let buf = cores.pool.alloc(1024).unwrap();
    reader.submit(Io::with_data(Op::Read, 7, 2, SgList::One(buf), 0)).unwrap();
    let mut seen = 0;
    let _ = reader.poll(|io| {
        assert!(io.data.as_slice()[0].as_slice().iter().all(|byte| *byte == 0x5a));
        seen += 1;
    });
    assert_eq!(seen, 1);
}

#[test]
fn bad_parameters_are_refused_with_a_reason() {
    let cores = Cores::new(1);
    let create = |options| malloc::create(&cores.registry, options).err().unwrap();
    for block_size in [0, 1, 256, 513, 8192, 1 << 31] {
        assert_eq!(create(malloc_options(block_size, 8)), CreateError::BadBlockSize { block_size });
    }
    assert_eq!(create(malloc_options(512, 0)), CreateError::NoBlocks);
    let bytes = 1 << 62;
    assert_eq!(create(malloc_options(512, bytes / 512)), CreateError::NoMemory { bytes });
    let error = create(malloc_options(4096, u64::MAX));
    assert_eq!(error, CreateError::NoMemory { bytes: u64::MAX });
    assert!(error.to_string().contains("memory"));
    assert_eq!(cores.registry.list().len(), 0);
}

#[test]
fn names_are_chosen_if_not_given_and_refused_if_taken() {
    let cores = Cores::new(1);
    let named = |name: Option<&str>| {
        let name = name.map(String::from);
        let made =
            malloc::create(&cores.registry, MallocOptions { name, ..malloc_options(512, 8) });
        made.map(|bdev| bdev.info().name.clone())
    };
    assert_eq!(named(None).unwrap(), "Malloc0");
    assert_eq!(named(None).unwrap(), "Malloc1");
    assert_eq!(named(Some("Malloc1")), Err(CreateError::Register(RegisterError::NameTaken)));
    cores.registry.unregister("Malloc0").unwrap();
    assert_eq!(named(None).unwrap(), "Malloc0");
}
