//! Several cores' reactors, polled in turn by one thread, behind one card.

extern crate std;

use std::cell::{Cell, RefCell};
use std::net::SocketAddrV4;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use basalt_env::{CoreId, DmaPool, DmaRun, DmaSlice, Instant, Work};
use basalt_hosted::Machine;
use basalt_models::virtio_net::{VirtioNetModel, Wire, WirePlan, feature};
use basalt_reactor::{Local, Options, Reactor, mesh};

use crate::tests::{CLIENT, Card, PORT, SERVER, SERVER_V6, SMALL, card, fixed, read};
use crate::{
    InterfaceConfig, IpStack, ListenerId, NetConfig, NetHandle, NetInterface, NetStack,
    SocketError, SocketId, SwitchStats, bring_up, start,
};

const TICK: Duration = Duration::from_micros(200);

/// What an echo server has seen on its core.
#[derive(Default)]
pub struct Seen {
    pub connections: usize,
    pub bytes: usize,
}

/// A machine of several cores with an echo server on each, and a client on another machine.
pub struct World {
    pub reactors: Vec<Reactor>,
    pub seen: Vec<Rc<RefCell<Seen>>>,
    pub client: IpStack<Card>,
    pub models: [VirtioNetModel; 2],
    wire: Wire,
    pub now: Instant,
}

impl World {
    pub fn new(cores: usize, plan: WirePlan, features: u64) -> Self {
        Self::with_pairs(cores, 1, plan, features)
    }

    /// One whose card has so many pairs of queues.
    pub fn with_pairs(cores: usize, pairs: u16, plan: WirePlan, features: u64) -> Self {
        let machine = Machine::new();
        let mac = [0x52, 0x54, 0, 0, 0, 1];
        let model = VirtioNetModel::new(machine.bus(), mac).with_pairs(pairs);
        let server_model = model.with_features(features);
        let memory = vec![16 << 20; cores];
        Self::of(&machine, server_model, &memory, plan, features)
    }

    /// One with that card, whose cores have so much DMA memory.
    pub fn of(
        machine: &Machine,
        server_model: VirtioNetModel,
        memory: &[usize],
        plan: WirePlan,
        features: u64,
    ) -> Self {
        let cores = memory.len();
        let (client_model, client_card) = card(2, features);
        let mut client = IpStack::new(client_card, SMALL, 77, Instant::ZERO);
        client.configure(fixed(CLIENT));
        let mut reactors: Vec<_> =
            mesh(cores, Options::default()).into_iter().map(|seed| seed.build()).collect();
        for (reactor, bytes) in reactors.iter().zip(memory) {
            reactor.local().provide(Rc::new(machine.pool(*bytes)));
        }
        let server_card = bring_up_on(&mut reactors, &server_model);
        let config = NetConfig {
            interface: fixed(SERVER),
            cores: (1..cores as u16).map(CoreId).collect(),
            seed: 0x1234_5678_9abc_def0,
            options: SMALL,
        };
        start(&reactors[0].local(), server_card, config).unwrap();
        let models = [server_model, client_model];
        let wire = Wire::new(plan, 5);
        let mut world = Self { reactors, seen: vec![], client, models, wire, now: Instant::ZERO };
        world.run(Duration::from_millis(2));
        world.seen = world.reactors.iter().map(|reactor| serve(&reactor.local())).collect();
        world.run(Duration::from_millis(2));
        world
    }

    pub fn step(&mut self) {
        self.step_by(TICK);
    }

    pub fn step_by(&mut self, time: Duration) {
        self.step_on(0..self.reactors.len(), time);
    }

    /// A step in which other cores do nothing.
    fn step_on(&mut self, cores: Range<usize>, time: Duration) {
        self.now = self.now + time;
        for reactor in &mut self.reactors[cores] {
            let _ = reactor.poll(self.now);
        }
        let _ = self.client.poll(self.now);
        self.wire.carry(&self.models[0], &self.models[1]);
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Sends `bytes` on every socket and waits for all the echoes.
    pub fn echo(&mut self, sockets: &[SocketId], bytes: &[u8]) {
        let mut sent = vec![0; sockets.len()];
        let mut got = vec![vec![]; sockets.len()];
        let end = self.now + Duration::from_secs(600);
        while got.iter().any(|got| got.len() < bytes.len()) {
            assert!(self.now < end, "no echo");
            for (index, &socket) in sockets.iter().enumerate() {
                sent[index] += self.client.send(socket, &bytes[sent[index]..]).unwrap();
                got[index].extend(read(&mut self.client, socket).unwrap());
            }
            self.step();
        }
        assert!(got.iter().all(|got| got == bytes));
    }

    pub fn connect(&mut self, count: usize) -> Vec<SocketId> {
        self.connect_to(SERVER.into(), count)
    }

    pub fn connect_to(&mut self, address: crate::IpAddress, count: usize) -> Vec<SocketId> {
        let peer = crate::Endpoint::new(address, PORT);
        (0..count)
            .map(|_| {
                let socket = self.client.connect(peer).unwrap();
                self.run(Duration::from_millis(2));
                socket
            })
            .collect()
    }

    pub fn connections(&self) -> Vec<usize> {
        self.seen.iter().map(|seen| seen.borrow().connections).collect()
    }
}

/// Has the first core bring the card up, with pairs of queues for the others.
fn bring_up_on(reactors: &mut [Reactor], model: &VirtioNetModel) -> Card {
    let (local, device) = (reactors[0].local(), model.device());
    let card = Rc::new(RefCell::new(None));
    let done = Rc::clone(&card);
    let task = local.clone();
    local.spawn("bring_up", async move {
        let pool = task.service::<DmaPool>().unwrap();
        let ticks = Cell::new(Instant::ZERO);
        let clock = || {
            ticks.set(ticks.get() + Duration::from_micros(10));
            ticks.get()
        };
        *done.borrow_mut() = Some(bring_up(&task, device, &pool, &clock, None).await.unwrap());
    });
    for _ in 0..100 {
        for reactor in &mut *reactors {
            let _ = reactor.poll(Instant::ZERO);
        }
    }
    card.take().expect("the card is up")
}

/// Starts an echo server on a core.
fn serve(local: &Local) -> Rc<RefCell<Seen>> {
    let stack = local.service::<NetHandle>().unwrap().stack();
    let listener = stack.borrow_mut().listen(PORT).unwrap();
    let seen = Rc::new(RefCell::new(Seen::default()));
    let counts = Rc::clone(&seen);
    let mut sockets = vec![];
    let pool = local.service::<DmaPool>();
    let poll = move |_: &Local| {
        let (mut stack, mut seen) = (stack.borrow_mut(), counts.borrow_mut());
        echo_round(&mut *stack, listener, &mut sockets, &mut seen, pool.as_deref())
    };
    local.poller("echo", poll).detach();
    seen
}

fn echo_round(
    stack: &mut dyn NetStack,
    listener: ListenerId,
    sockets: &mut Vec<(SocketId, Vec<u8>)>,
    seen: &mut Seen,
    pool: Option<&DmaPool>,
) -> Work {
    while let Some(socket) = stack.accept(listener) {
        seen.connections += 1;
        sockets.push((socket, vec![]));
    }
    sockets.retain_mut(|(socket, queued)| {
        match read(stack, *socket) {
            Ok(bytes) => {
                seen.bytes += bytes.len();
                queued.extend(bytes);
            }
            Err(SocketError::Closed | SocketError::Reset) => {
                stack.close(*socket);
                return false;
            }
        }
        let (first, second) = queued.split_at(queued.len() / 2);
        let shared = pool.and_then(|pool| share(pool, second));
        let second = shared.as_ref().map_or(DmaRun::Lent(second), |all| DmaRun::Shared(all, 0));
        let sent = stack.send_vectored(*socket, &[DmaRun::Lent(first), second]).unwrap_or(0);
        queued.drain(..sent);
        true
    });
    Work::IDLE
}

/// A shared buffer with those bytes.
fn share(pool: &DmaPool, bytes: &[u8]) -> Option<DmaSlice> {
    let mut buf = pool.alloc(bytes.len()).ok()?;
    buf.as_mut_slice().copy_from_slice(bytes);
    pool.share(buf).ok()
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[test]
fn connections_spread_evenly_and_each_stays_on_its_core() {
    let mut world = World::new(3, WirePlan::default(), feature::ALL);
    let sockets = world.connect(9);
    world.run(Duration::from_millis(10));
    assert_eq!(world.connections(), [3, 3, 3]);
    world.echo(&sockets, &pattern(20_000));
    let bytes: Vec<_> = world.seen.iter().map(|seen| seen.borrow().bytes).collect();
    assert_eq!(bytes, [60_000; 3]);
}

#[test]
fn every_second_connection_goes_to_every_core() {
    let mut world = World::new(2, WirePlan::default(), feature::ALL);
    let mut second_on = [0, 0];
    for _ in 0..12 {
        let _ = world.connect(1);
        let before = world.connections();
        let _ = world.connect(1);
        let after = world.connections();
        for core in 0..2 {
            second_on[core] += after[core] - before[core];
        }
    }
    assert_eq!(world.connections(), [12, 12]);
    assert!(second_on.iter().all(|count| (2..=10).contains(count)), "{second_on:?}");
}

#[test]
fn flows_over_ipv6_are_steered_as_others_are() {
    let mut world = World::new(3, WirePlan { lost: 10, ..WirePlan::default() }, feature::ALL);
    let mut sockets = world.connect_to(SERVER_V6.into(), 6);
    sockets.extend(world.connect(3));
    world.echo(&sockets, &pattern(20_000));
    let bytes: Vec<_> = world.seen.iter().map(|seen| seen.borrow().bytes).collect();
    assert_eq!(bytes, [60_000; 3]);
}

#[test]
fn what_a_router_gives_reaches_every_core_and_is_served_there() {
    let mut world = World::new(3, WirePlan::default(), feature::ALL);
    world.models[0].inject(crate::tests::ipv6::advertisement(0xfd07, 600));
    world.models[1].inject(crate::tests::ipv6::advertisement(0xfd07, 600));
    world.run(Duration::from_millis(5));
    let info = world.reactors[0].local().service::<NetInterface>().unwrap().info();
    let learnt = info.addresses.v6().find(|cidr| cidr.address().segments()[0] == 0xfd07).unwrap();
    assert_eq!(info.addresses.gateway_v6, Some(crate::tests::ipv6::ROUTER));
    let sockets = world.connect_to(learnt.address().into(), 6);
    world.echo(&sockets, &pattern(5_000));
    assert_eq!(world.connections(), [2; 3]);
}

#[test]
fn one_flow_goes_to_one_core_only() {
    let mut world = World::new(4, WirePlan::default(), feature::ALL);
    let sockets = world.connect(1);
    world.echo(&sockets, &pattern(100_000));
    let busy = world.seen.iter().filter(|seen| seen.borrow().bytes > 0).count();
    assert_eq!((busy, world.connections().iter().sum::<usize>()), (1, 1));
}

#[test]
fn echoes_survive_a_bad_wire_with_and_without_offloads() {
    let plan = WirePlan { lost: 20, doubled: 10, overtaken: 50, damaged: 0 };
    let plain = feature::VERSION_1 | feature::MAC;
    for (plan, features) in
        [(plan, feature::ALL), (plan, plain), (WirePlan { damaged: 20, ..plan }, plain)]
    {
        let mut world = World::new(2, plan, features);
        let sockets = world.connect(4);
        world.echo(&sockets, &pattern(20_000));
    }
}

fn switch_stats(world: &World) -> SwitchStats {
    world.reactors[0].local().service::<NetInterface>().unwrap().info().switch
}

#[test]
fn data_crosses_cores_where_the_card_has_put_it_and_its_buffers_come_back() {
    let plain = feature::VERSION_1 | feature::MAC;
    for (features, most_per_frame) in [(plain, 1460), (feature::ALL, 65_535)] {
        let mut world = World::new(2, WirePlan::default(), features);
        let sockets = world.connect(2);
        assert_eq!((world.connections(), switch_stats(&world).lent), (vec![1, 1], 0));
        world.echo(&sockets, &pattern(1 << 20));
        let SwitchStats { lent, dropped, .. } = switch_stats(&world);
        // All but the ends of what the client was ready to send.
        assert!(lent * most_per_frame * 10 >= 9 << 20, "{lent} of them");
        assert_eq!(dropped, 0);
    }
}

#[test]
fn a_core_that_reads_nothing_does_not_keep_the_card_from_others() {
    let plain = feature::VERSION_1 | feature::MAC;
    let mut world = World::new(2, WirePlan::default(), plain);
    let sockets = world.connect(64);
    assert_eq!(world.connections(), [32, 32]);
    let on_first = |world: &World| world.seen[0].borrow().bytes;
    let data = pattern(8 << 10);
    let mut sent = vec![0; sockets.len()];
    for _ in 0..200 {
        for (&socket, sent) in sockets.iter().zip(&mut sent) {
            *sent += world.client.send(socket, &data[*sent..]).unwrap();
        }
        world.step_on(0..1, TICK);
    }
    let stats = switch_stats(&world);
    assert!(stats.lent > 64 && stats.to_lanes - stats.lent > 64, "lent, then copied: {stats:?}");
    assert_eq!(on_first(&world), 32 * data.len(), "its own core has all of its own");
    // The other core catches up with what it has, and with what was lost meanwhile.
    world.run(Duration::from_secs(2));
    assert_eq!(world.seen[1].borrow().bytes, 32 * data.len());
    assert_eq!(sent, vec![data.len(); 64]);
}

#[test]
fn a_port_only_one_core_listens_on_leads_there() {
    let mut world = World::new(3, WirePlan::default(), feature::ALL);
    let local = world.reactors[2].local();
    let stack = local.service::<NetHandle>().unwrap().stack();
    let listener = stack.borrow_mut().listen(5260).unwrap();
    world.run(Duration::from_millis(2));
    for _ in 0..4 {
        world.client.connect(SocketAddrV4::new(SERVER, 5260).into()).unwrap();
        world.run(Duration::from_millis(5));
        assert!(stack.borrow_mut().accept(listener).is_some());
    }
    stack.borrow_mut().unlisten(listener);
    world.run(Duration::from_millis(2));
    let refused = world.client.connect(SocketAddrV4::new(SERVER, 5260).into()).unwrap();
    world.run(Duration::from_millis(5));
    assert_eq!(read(&mut world.client, refused), Err(SocketError::Reset));
}

#[test]
fn closed_connections_leave_no_flow_and_no_socket() {
    let mut world = World::new(2, WirePlan::default(), feature::ALL);
    for _ in 0..20 {
        let sockets = world.connect(4);
        world.echo(&sockets, b"short");
        sockets.into_iter().for_each(|socket| world.client.close(socket));
        world.run(Duration::from_millis(20));
    }
    assert_eq!(world.connections(), [40, 40]);
    assert_eq!(world.client.stats().connections, 0);
    let info = world.reactors[0].local().service::<NetInterface>().unwrap().info();
    assert_eq!((info.stack.connections, info.switch.dropped), (0, 0));
}

#[test]
fn a_link_that_is_gone_is_told_of() {
    let world = World::new(2, WirePlan::default(), feature::ALL);
    let interface = world.reactors[0].local().service::<NetInterface>().unwrap();
    assert!(interface.info().link_up);
    world.models[0].set_link(0);
    assert!(!interface.info().link_up);
    world.models[0].set_link(1);
    assert!(interface.info().link_up);
}

#[test]
fn a_new_address_reaches_every_core() {
    let mut world = World::new(3, WirePlan::default(), feature::ALL);
    let interface = world.reactors[0].local().service::<NetInterface>().unwrap();
    let addresses = |world: &World| -> Vec<_> {
        let stacks = world.reactors.iter().map(|r| r.local().service::<NetHandle>().unwrap());
        stacks.map(|handle| handle.stack().borrow().address()).collect()
    };
    assert_eq!(addresses(&world), [Some(SERVER.into()); 3]);
    let other = [10, 0, 0, 77].into();
    interface.configure(fixed(other));
    world.run(Duration::from_millis(2));
    assert_eq!(addresses(&world), [Some(other.into()); 3]);
    interface.configure(InterfaceConfig::Dhcp);
    world.run(Duration::from_millis(2));
    assert_eq!(addresses(&world), [None; 3]);
    assert_eq!(interface.info().mtu, 1500);
}
