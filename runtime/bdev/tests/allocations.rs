//! An operation allocates nothing on its way down and up, awaited or not.
#![expect(unsafe_code, reason = "a test's allocator counts what passes through it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU16;
use std::rc::Rc;

use basalt_bdev::malloc::{self, MallocOptions};
use basalt_bdev::vbdev::raid::{self, Level, RaidOptions};
use basalt_bdev::vbdev::split::{self, SplitOptions};
use basalt_bdev::vbdev::{Vbdevs, passthru};
use basalt_bdev::{Access, AsyncChannel, Channel, Descriptor, Io, Op, Registry, SgList};
use basalt_env::{DmaPool, Instant};
use basalt_hosted::Machine;
use basalt_reactor::{Options, Reactor, mesh};

struct Counting;

thread_local! {
    /// By thread: the test harness has threads of its own, which allocate when they like.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn allocations() -> u64 {
    ALLOCATIONS.get()
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn disk() -> Descriptor {
    let registry = Registry::new(1, 0);
    let options = MallocOptions { block_size: 4096, num_blocks: 256, ..MallocOptions::default() };
    malloc::create(&registry, options).unwrap();
    registry.open("Malloc0", Access::ReadWrite).unwrap()
}

/// Keeps `ios` going round until each was handed back a hundred times.
fn go_round(channel: &mut Channel, ios: &mut Vec<Io>, spare: &mut Vec<Io>) {
    for _ in 0..100 {
        for io in ios.drain(..) {
            channel.submit(io).unwrap();
        }
        let _ = channel.poll(|io| spare.push(io));
        std::mem::swap(ios, spare);
    }
}

fn pooled(pool: &DmaPool) -> SgList {
    SgList::One(pool.alloc(4096).unwrap())
}

fn start_tasks(reactor: &Reactor, pool: &DmaPool, reads: &Rc<Cell<u64>>) {
    let local = reactor.local();
    let channel = disk().channel(&local).unwrap();
    let depth = NonZeroU16::new(8).unwrap();
    let channel = AsyncChannel::new(&local, channel, depth, "test").unwrap();
    for lba in 0..16 {
        let (channel, pool, reads) = (channel.clone(), pool.clone(), Rc::clone(reads));
        local.spawn("reader", async move {
            loop {
                let (_, status) = channel.read(lba, 1, pooled(&pool)).await;
                assert_eq!(status, Ok(()));
                reads.set(reads.get() + 1);
            }
        });
    }
}

#[test]
fn reads_and_writes_allocate_nothing() {
    let pool = Machine::new().pool(4 << 20);
    let mut reactor = mesh(1, Options::default()).pop().unwrap().build();

    let mut channel = disk().channel(&reactor.local()).unwrap();
    let op = |i| if i % 2 == 0 { Op::Read } else { Op::Write };
    let io = |i| Io::with_data(op(i), i, 1, pooled(&pool), i);
    let mut ios: Vec<_> = (0..64).map(io).collect();
    let mut spare = Vec::with_capacity(ios.len());
    let before = allocations();
    go_round(&mut channel, &mut ios, &mut spare);
    assert_eq!(allocations() - before, 0, "through a channel");

    let reads = Rc::new(Cell::new(0));
    start_tasks(&reactor, &pool, &reads);
    let mut rounds = 0..;
    let mut run = |count| {
        for now in rounds.by_ref().take(count) {
            let _ = reactor.poll(Instant::from_ns(now));
        }
    };
    run(50);
    let before = (allocations(), reads.get());
    run(1000);
    assert!(reads.get() - before.1 > 1000, "the readers keep reading");
    assert_eq!(allocations() - before.0, 0, "awaited");
}

#[test]
fn layers_and_emulated_operations_allocate_nothing() {
    let pool = Machine::new().pool(8 << 20);
    let mut reactor = mesh(1, Options::default()).pop().unwrap().build();
    let local = reactor.local();
    local.provide(Rc::new(pool.clone()));
    let registry = Rc::new(Registry::new(1, 0));
    let options = MallocOptions { block_size: 4096, num_blocks: 256, ..MallocOptions::default() };
    malloc::create(&registry, options).unwrap();
    let vbdevs = Vbdevs::new(&registry);
    vbdevs.create(passthru::recipe("P", "Malloc0", None)).unwrap();
    vbdevs.create(split::recipe("P", SplitOptions { count: 2, size_mib: 0 })).unwrap();
    let disk = registry.open("Pp1", Access::ReadWrite).unwrap();
    let mut channel = disk.channel(&local).unwrap();
    let io = |i: u64| match i % 3 {
        0 => Io::copy(i, i + 40, 2, i),
        1 => Io::with_data(Op::Compare, i, 1, pooled(&pool), i),
        _ => Io::with_data(Op::Read, i, 1, pooled(&pool), i),
    };
    let mut ios: Vec<_> = (0..48).map(io).collect();
    let mut spare = Vec::with_capacity(48);
    go_round(&mut channel, &mut ios, &mut spare);
    let before = allocations();
    go_round(&mut channel, &mut ios, &mut spare);
    assert_eq!(allocations() - before, 0);
    let _ = reactor.poll(Instant::ZERO);
}

#[test]
fn transfers_over_several_bases_allocate_nothing() {
    let pool = Machine::new().pool(8 << 20);
    let reactor = mesh(1, Options::default()).pop().unwrap().build();
    let local = reactor.local();
    local.provide(Rc::new(pool.clone()));
    let registry = Rc::new(Registry::new(1, 0));
    let vbdevs = Vbdevs::new(&registry);
    let levels = [("Stripes", Level::Raid0), ("Mirror", Level::Raid1), ("Parity", Level::Raid5f)];
    for (name, level) in levels {
        let bases: Vec<_> = (0..3).map(|base| format!("{name}{base}")).collect();
        for base in &bases {
            let name = Some(base.clone());
            let options =
                MallocOptions { name, block_size: 512, num_blocks: 256, ..Default::default() };
            malloc::create(&registry, options).unwrap();
        }
        let strip_size_kib = if level == Level::Raid1 { 0 } else { 1 };
        let name = name.to_string();
        let options = RaidOptions { name: name.clone(), level, strip_size_kib, bases, uuid: None };
        vbdevs.create(raid::recipe(options)).unwrap();
        let disk = registry.open(&name, Access::ReadWrite).unwrap();
        let mut channel = disk.channel(&local).unwrap();
        let op = |i| if i % 2 == 0 { Op::Read } else { Op::Write };
        // Over several strips each, and whole stripes.
        let io = |i| Io::with_data(op(i), i * 4, 8, pooled(&pool), i);
        let mut ios: Vec<_> = (0..24).map(io).collect();
        let mut spare = Vec::with_capacity(24);
        go_round(&mut channel, &mut ios, &mut spare);
        let before = allocations();
        go_round(&mut channel, &mut ios, &mut spare);
        assert_eq!(allocations() - before, 0, "{name}");
    }
}
