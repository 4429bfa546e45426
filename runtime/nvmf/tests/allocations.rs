//! Reads and writes allocate nothing on their way from the network to the bdev and back.
#![expect(unsafe_code, reason = "a test's allocator counts what passes through it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

extern crate alloc;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use basalt_bdev::malloc::{self, MallocOptions};
use basalt_bdev::{Access, Registry};
use basalt_env::Instant;
use basalt_hosted::Machine;
use basalt_models::pipes::TestStack;
use basalt_nvme_spec::fabrics::{Connect, ConnectData, Property};
use basalt_nvme_spec::registers::{self, Cc};
use basalt_nvme_spec::{Command, SglDescriptor};
use basalt_nvmf::pdu::wire::{self, CommonHeader, flags, kind};
use basalt_nvmf::{
    DEFAULT_NQN, HostPolicy, NamespaceOptions, PollGroup, SubsystemOptions, Target, TransportConfig,
};
use basalt_reactor::{Options, Reactor, mesh};
use zerocopy::IntoBytes;

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

const BLOCK: usize = 4096;
const LARGE: usize = 16 * BLOCK;
const RESPONSE: usize = 24;

struct World {
    reactor: Reactor,
    stack: Rc<RefCell<TestStack>>,
    _target: Rc<Target>,
    _group: Rc<PollGroup>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let reactor = mesh(1, Options::default()).pop().unwrap().build();
        let local = reactor.local();
        let config = TransportConfig::default();
        let target = Target::start(&local, config);
        let stack = Rc::new(RefCell::new(TestStack::new()));
        let pool = Machine::new().pool(16 << 20);
        let group = PollGroup::start(&local, stack.clone(), pool, config);
        serve(&reactor, &target);
        let now = Instant::ZERO;
        let mut world = Self { reactor, stack, _target: target, _group: group, now };
        world.rounds(40);
        world
    }

    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.now = self.now + Duration::from_micros(10);
            let _ = self.reactor.poll(self.now);
        }
    }

    fn send(&mut self, pipe: usize, bytes: &[u8]) {
        self.stack.borrow_mut().pipes[pipe].to_target.extend(bytes);
        self.rounds(40);
    }

    /// Bytes `at` of what has come back.
    fn peek(&self, pipe: usize, at: [usize; 2]) -> [u8; 2] {
        at.map(|at| self.stack.borrow().pipes[pipe].to_host[at])
    }

    /// Throws away what has come back; gives its length.
    fn drain(&mut self, pipe: usize) -> usize {
        self.stack.borrow_mut().pipes[pipe].to_host.drain(..).count()
    }

    /// A connected queue, and the controller's identifier.
    fn queue(&mut self, qid: u16, cntlid: u16) -> (usize, u16) {
        let pipe = self.stack.borrow_mut().connect(4420);
        self.send(pipe, &pdu(kind::IC_REQ, 0, &[0; 120], &[]));
        self.drain(pipe);
        let mut data = ConnectData { cntlid: cntlid.into(), ..ConnectData::default() };
        data.subnqn[..DEFAULT_NQN.len()].copy_from_slice(DEFAULT_NQN.as_bytes());
        data.hostnqn[..8].copy_from_slice(b"nqn.host");
        let connect = Connect::new(qid, 32, 0, SglDescriptor::in_capsule(0, 1024));
        self.send(pipe, &capsule(connect.into(), data.as_bytes()));
        assert_eq!(self.peek(pipe, [22, 23]), [0, 0], "Connect succeeds");
        let cntlid = u16::from_le_bytes(self.peek(pipe, [8, 9]));
        self.drain(pipe);
        (pipe, cntlid)
    }
}

fn serve(reactor: &Reactor, target: &Rc<Target>) {
    let registry = Registry::new(1, 0);
    let options =
        MallocOptions { block_size: BLOCK as u32, num_blocks: 256, ..MallocOptions::default() };
    malloc::create(&registry, options).unwrap();
    let bdev = registry.open("Malloc0", Access::ReadWrite).unwrap();
    target.create_subsystem(DEFAULT_NQN, SubsystemOptions::default()).unwrap();
    target.allow_any_host(DEFAULT_NQN, HostPolicy::Any).unwrap();
    target.add_ns(DEFAULT_NQN, bdev, NamespaceOptions::default()).unwrap();
    let target = Rc::clone(target);
    reactor.local().spawn("listen", async move {
        target.add_listener(DEFAULT_NQN, 4420).await.unwrap();
    });
}

fn pdu(kind: u8, flags: u8, header_rest: &[u8], data: &[u8]) -> Vec<u8> {
    let hlen = (8 + header_rest.len()) as u8;
    let pdo = if data.is_empty() { 0 } else { hlen };
    let plen = (usize::from(hlen) + data.len()) as u32;
    let common = CommonHeader { kind, flags, hlen, pdo, plen: plen.into() };
    [common.as_bytes(), header_rest, data].concat()
}

fn capsule(command: Command, data: &[u8]) -> Vec<u8> {
    pdu(kind::CAPSULE_CMD, 0, command.as_bytes(), data)
}

fn transport(mut command: Command, len: usize) -> Vec<u8> {
    command.set_sgl1(SglDescriptor::transport(len as u32));
    capsule(command, &[])
}

/// The data for one R2T of [`LARGE`] bytes; the tag, bytes 10 and 11, is still to be set.
fn large_data() -> Vec<u8> {
    let header = wire::Data {
        common: CommonHeader::default(),
        cccid: 0.into(),
        ttag: 0.into(),
        datao: 0.into(),
        datal: (LARGE as u32).into(),
        reserved: [0; 4],
    };
    pdu(kind::H2C_DATA, flags::LAST, &header.as_bytes()[8..], &[5; LARGE])
}

#[test]
fn reads_and_writes_over_the_network_allocate_nothing() {
    let mut world = World::new();
    let (admin, cntlid) = world.queue(0, 0xffff);
    let cc = u64::from(Cc::enabled(Cc::CSS_NVM).0);
    world.send(admin, &capsule(Property::set(registers::CC as u32, 4, cc).into(), &[]));
    let (io, _) = world.queue(1, cntlid);

    let mut in_capsule = Command::write(1, 3, 1);
    in_capsule.set_sgl1(SglDescriptor::in_capsule(0, BLOCK as u32));
    // As deep as the queue is: reads and writes of a block.
    let write = capsule(in_capsule, &[7; BLOCK]);
    let read = transport(Command::read(1, 3, 1), BLOCK);
    let batch = [write.repeat(16), read.repeat(16)].concat();
    let failing = transport(Command::read(1, 9999, 1), BLOCK);
    let large = transport(Command::write(1, 64, 16), LARGE);
    let mut data = large_data();
    let mut turn = |world: &mut World| {
        world.send(io, &batch);
        assert!(world.drain(io) >= 16 * (RESPONSE + 24 + BLOCK));
        world.send(io, &large);
        data[10..12].copy_from_slice(&world.peek(io, [10, 11]));
        assert_eq!(world.drain(io), 24, "an R2T");
        world.send(io, &data);
        assert_eq!(world.drain(io), RESPONSE);
        world.send(io, &failing);
        assert_eq!(world.drain(io), RESPONSE);
    };
    // The failures fill the controller's error log before counting starts.
    for _ in 0..100 {
        turn(&mut world);
    }
    let before = allocations();
    for _ in 0..100 {
        turn(&mut world);
    }
    assert_eq!(allocations() - before, 0);
}
