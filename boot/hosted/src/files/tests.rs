use std::fs;
use std::io::Write as _;
use std::time::Duration;

use basalt_bdev::suite::{self, Medium, Rig};
use basalt_bdev::{Access, Io, IoError, Op, RejectReason, SgList};
use basalt_env::DmaPool;
use basalt_hosted::{Clock, Machine, Readiness};
use basalt_reactor::{Options, Reactor, mesh};
use basalt_rpc::methods::FileModule;
use tempfile::NamedTempFile;

use super::*;

/// One core with a file, as the program has it.
struct Core {
    reactor: Reactor,
    registry: Registry,
    pool: DmaPool,
    clock: Clock,
    file: NamedTempFile,
}

impl Core {
    fn new(size_bytes: u64) -> Self {
        let reactor = mesh(1, Options::default()).pop().unwrap().build();
        let local = reactor.local();
        local.provide(Rc::new(Readiness::new().unwrap()));
        start_core(&local);
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(size_bytes).unwrap();
        let (pool, clock) = (Machine::new().pool(16 << 20), Clock::start());
        local.provide(Rc::new(pool.clone()));
        Self { reactor, registry: Registry::new(1, 1), pool, clock, file }
    }

    fn options(&self) -> FileOptions {
        FileOptions {
            module: FileModule::Aio,
            name: "Aio0".into(),
            filename: self.file.path().to_string_lossy().into(),
            block_size: None,
            readonly: false,
            uuid: None,
        }
    }

    fn refusal(&self, options: FileOptions) -> (i64, String) {
        let error = create(&self.registry, options).err().unwrap();
        (error.code, error.to_string())
    }
}

impl Rig for Core {
    fn step(&mut self) {
        if !self.reactor.poll(self.clock.now()).is_busy() {
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    fn local(&self) -> Local {
        self.reactor.local()
    }

    fn pool(&self) -> DmaPool {
        self.pool.clone()
    }
}

#[test]
fn a_file_behaves_like_every_bdev_with_every_block_size() {
    for block_size in [512, 1024, 2048, 4096] {
        let mut core = Core::new(1 << 20);
        let options = FileOptions { block_size: Some(block_size), ..core.options() };
        let bdev = create(&core.registry, options).unwrap();
        assert_eq!(bdev.info().size_bytes(), 1 << 20);
        let disk = core.registry.open("Aio0", Access::ReadWrite).unwrap();
        suite::run(&mut core, &disk, Medium::Keeps);
    }
}

#[test]
fn what_is_written_is_in_the_file_and_punched_room_is_given_back() {
    let mut core = Core::new(1 << 20);
    create(&core.registry, core.options()).unwrap();
    let disk = core.registry.open("Aio0", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&core.local()).unwrap();
    let block = disk.info().block_size as usize;
    let mut run = |core: &mut Core, io: Io| {
        channel.submit(io).unwrap();
        let mut ended = None;
        while ended.is_none() {
            core.step();
            let _ = channel.poll(|io| ended = Some(io.status));
        }
        assert_eq!(ended, Some(Ok(())));
    };
    let mut data = core.pool.alloc(4 * block).unwrap();
    data.as_mut_slice().fill(0x6b);
    run(&mut core, Io::with_data(Op::Write, 8, 4, SgList::One(data), 0));
    run(&mut core, Io::new(Op::Flush, 0, 0, 0));
    let bytes = fs::read(core.file.path()).unwrap();
    assert!(bytes[8 * block..12 * block].iter().all(|byte| *byte == 0x6b));
    assert!(bytes[..8 * block].iter().chain(&bytes[12 * block..]).all(|byte| *byte == 0));
    run(&mut core, Io::new(Op::Unmap, 0, disk.info().num_blocks.get() as u32, 0));
    assert!(fs::read(core.file.path()).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(fs::metadata(core.file.path()).unwrap().len(), 1 << 20, "its length stays");
}

#[test]
fn a_file_that_was_cut_fails_reads_behind_its_end_and_no_others() {
    let mut core = Core::new(1 << 20);
    create(&core.registry, core.options()).unwrap();
    let disk = core.registry.open("Aio0", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&core.local()).unwrap();
    core.file.as_file().set_len(64 << 10).unwrap();
    let blocks = disk.info().num_blocks.get();
    for lba in [0, blocks - 1] {
        let buffer = core.pool.alloc(disk.info().block_size as usize).unwrap();
        channel.submit(Io::with_data(Op::Read, lba, 1, SgList::One(buffer), lba)).unwrap();
    }
    let mut ended = Vec::new();
    while ended.len() < 2 {
        core.step();
        let _ = channel.poll(|io| ended.push((io.tag, io.status)));
    }
    ended.sort_by_key(|(tag, _)| *tag);
    assert_eq!(ended[0], (0, Ok(())));
    assert_eq!(ended[1].1, Err(IoError::Nvme { sct: 2, sc: 0x81, dnr: false }));
}

#[test]
fn a_channel_that_goes_while_the_host_is_at_work_gives_everything_back() {
    let mut core = Core::new(8 << 20);
    create(&core.registry, core.options()).unwrap();
    let before = core.pool.stats();
    let disk = core.registry.open("Aio0", Access::ReadWrite).unwrap();
    for _ in 0..20 {
        let mut channel = disk.channel(&core.local()).unwrap();
        for lba in 0..32 {
            let buffer = core.pool.alloc(disk.info().block_size as usize * 4).unwrap();
            channel.submit(Io::with_data(Op::Write, lba * 4, 4, SgList::One(buffer), lba)).unwrap();
        }
        core.step();
        drop(channel);
    }
    let deadline = core.clock.now() + Duration::from_secs(20);
    while core.pool.stats() != before {
        assert!(core.clock.now() < deadline, "{:?}, then {:?}", before, core.pool.stats());
        core.step();
    }
}

#[test]
fn a_file_that_is_only_read_cannot_be_written() {
    let core = Core::new(1 << 20);
    create(&core.registry, FileOptions { readonly: true, ..core.options() }).unwrap();
    let disk = core.registry.open("Aio0", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&core.local()).unwrap();
    for op in [Op::Unmap, Op::WriteZeroes] {
        let refused = channel.submit(Io::new(op, 0, 1, 0)).unwrap_err();
        assert_eq!(refused.reason, RejectReason::Unsupported);
    }
    let buffer = core.pool.alloc(disk.info().block_size as usize).unwrap();
    let refused = channel.submit(Io::with_data(Op::Write, 0, 1, SgList::One(buffer), 0));
    assert_eq!(refused.unwrap_err().reason, RejectReason::Unsupported);
}

#[test]
fn what_is_no_storage_is_refused_with_a_reason() {
    let core = Core::new(0);
    let named = |filename: &str| FileOptions { filename: filename.into(), ..core.options() };
    for (options, code, says) in [
        (named("/no/such/file"), -errno::ENOENT, "/no/such/file"),
        (named("/"), -errno::EINVAL, "neither a regular file nor a block device"),
        (named("/dev/zero"), -errno::EINVAL, "neither a regular file nor a block device"),
        (core.options(), -errno::EINVAL, "truncate"),
    ] {
        let (refused, message) = core.refusal(options);
        assert!(refused == code && message.contains(says), "{refused} {message}");
    }
    core.file.as_file().write_all(&[1; 1000]).unwrap();
    let (_, message) = core.refusal(core.options());
    assert!(message.contains("1000 bytes"), "{message}");
    core.file.as_file().set_len(1 << 16).unwrap();
    for block_size in [256, 513, 8192] {
        let options = FileOptions { block_size: Some(block_size), ..core.options() };
        assert!(core.refusal(options).1.contains("is not one of"), "{block_size}");
    }
    create(&core.registry, core.options()).unwrap();
    assert_eq!(core.refusal(core.options()).0, -errno::EEXIST);
}

#[test]
fn a_file_of_odd_sectors_is_served_in_sectors() {
    let core = Core::new(3 * 512);
    let bdev = create(&core.registry, core.options()).unwrap();
    assert_eq!((bdev.info().block_size, bdev.info().num_blocks.get()), (512, 3));
}
