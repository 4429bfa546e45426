extern crate std;

mod checksum;
mod datagrams;
mod dhcp;
pub(crate) mod ipv6;
mod large;
mod links;
mod shared;
mod small;
mod tcp;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use basalt_env::{CoreId, Instant};
use basalt_hosted::Machine;
use basalt_models::virtio_net::{ModelDevice, VirtioNetModel, Wire, WirePlan, feature};
use basalt_virtio_net::VirtioNet;

use crate::{
    Address, Addresses, Endpoint, InterfaceConfig, IpStack, Ipv4Cidr, Ipv6Cidr, ListenerId,
    NetStack, SocketError, SocketId, StackOptions,
};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub const PORT: u16 = 4420;
pub const TICK: Duration = Duration::from_micros(200);
pub const SMALL: StackOptions = StackOptions {
    rx_buffer_len: 16 << 10,
    tx_buffer_len: 16 << 10,
    connections_max: 1024,
    backlog_max: 64,
};

pub type Card = VirtioNet<ModelDevice>;

pub fn card(number: u8, features: u64) -> (VirtioNetModel, Card) {
    card_of_mtu(number, features, 1500)
}

pub fn card_of_mtu(number: u8, features: u64, mtu: u16) -> (VirtioNetModel, Card) {
    let machine = Machine::new();
    let pool = machine.pool(8 << 20);
    let mac = [0x52, 0x54, 0, 0, 0, number];
    let model = VirtioNetModel::new(machine.bus(), mac).with_features(features).with_mtu(mtu);
    let net = VirtioNet::bring_up(model.device(), &pool, &|| Instant::ZERO, CoreId::BOOT).unwrap();
    (model, net)
}

/// That address, and an IPv6 one of the same last number.
pub fn fixed(address: Ipv4Addr) -> InterfaceConfig {
    let cidr = Ipv4Cidr::new(address, 24).unwrap();
    let mut addresses = Addresses::from(Address { cidr, gateway: None });
    let number = u16::from(address.octets()[3]);
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number);
    addresses.add_v6(Ipv6Cidr::new(v6, 64).unwrap()).unwrap();
    InterfaceConfig::Static(addresses)
}

/// A server and a client on two machines, with real drivers and a cable between them.
pub struct Pair {
    pub server: IpStack<Card>,
    pub client: IpStack<Card>,
    pub models: [VirtioNetModel; 2],
    pub wire: Wire,
    pub now: Instant,
    /// Where the server is reached.
    pub target: Endpoint,
}

impl Pair {
    pub fn new(plan: WirePlan, seed: u64) -> Self {
        Self::with(plan, seed, SMALL, feature::ALL)
    }

    pub fn with(plan: WirePlan, seed: u64, options: StackOptions, features: u64) -> Self {
        Self::of(plan, seed, options, [card(1, features), card(2, features)])
    }

    pub fn of(
        plan: WirePlan,
        seed: u64,
        options: StackOptions,
        cards: [(VirtioNetModel, Card); 2],
    ) -> Self {
        let now = Instant::ZERO;
        let [(server_model, server), (client_model, client)] = cards;
        let mut server = IpStack::new(server, options, seed, now);
        let mut client = IpStack::new(client, options, !seed, now);
        server.configure(fixed(SERVER));
        client.configure(fixed(CLIENT));
        let models = [server_model, client_model];
        Self {
            server,
            client,
            models,
            wire: Wire::new(plan, seed),
            now,
            target: (SERVER, PORT).into(),
        }
    }

    /// Reaches the server by that address from now on.
    pub fn at(mut self, address: impl Into<crate::IpAddress>) -> Self {
        self.target.set_ip(address.into());
        self
    }

    pub fn step(&mut self) {
        self.now = self.now + TICK;
        let _ = self.server.poll(self.now);
        let _ = self.client.poll(self.now);
        self.wire.carry(&self.models[0], &self.models[1]);
    }

    /// Steps until `done`, for at most `limit` of simulated time.
    pub fn until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not done after {limit:?}");
            self.step();
        }
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    pub fn connect(&mut self, listener: ListenerId) -> (SocketId, SocketId) {
        let near = self.client.connect(self.target).unwrap();
        let mut far = None;
        self.until(Duration::from_secs(60), |pair| {
            far = pair.server.accept(listener);
            far.is_some()
        });
        (near, far.unwrap())
    }
}

/// Reads what there is.
pub fn read(stack: &mut dyn NetStack, socket: SocketId) -> Result<Vec<u8>, SocketError> {
    let mut bytes = vec![];
    stack.recv(socket, &mut |chunk| {
        bytes.extend_from_slice(chunk);
        chunk.len()
    })?;
    Ok(bytes)
}
