//! Puts a card's stacks on their cores.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use basalt_env::CoreId;
use basalt_reactor::{Local, SendError};

use crate::ip::MTU_MIN_V6;
use crate::port::Frame;
use crate::queues::{NetQueue, OwnQueue, QueueStats};
use crate::steer::{CorePort, LocalPort, RemoteEnd, RemotePort, Switch, SwitchStats};
use crate::{Addresses, FramePort, InterfaceConfig, IpStack, NetStack, StackOptions, StackStats};

/// A core's stack, as a service: `local.service::<NetHandle>()`.
pub struct NetHandle {
    stack: Rc<RefCell<dyn NetStack>>,
}

impl NetHandle {
    /// A handle on `stack`, for [`Local::provide`].
    pub fn new(stack: Rc<RefCell<dyn NetStack>>) -> Self {
        Self { stack }
    }

    /// The stack. It is polled every round; borrow it only while using it.
    pub fn stack(&self) -> Rc<RefCell<dyn NetStack>> {
        Rc::clone(&self.stack)
    }
}

impl fmt::Debug for NetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetHandle")
    }
}

/// How to start a card.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Where its address comes from.
    pub interface: InterfaceConfig,
    /// The cores that get a stack besides the one that starts it.
    pub cores: Vec<CoreId>,
    /// Entropy: sequence numbers and hashes are made of it.
    pub seed: u64,
    /// Sizes and limits of each core's stack.
    pub options: StackOptions,
}

/// What a card and the stack on its core have done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetInfo {
    /// The card's MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// Whether there is a link, as far as the card knows.
    pub link_up: bool,
    /// What addresses there are, but the link-local one.
    pub addresses: Addresses,
    /// Of the stack on the card's core.
    pub stack: StackStats,
    /// Of the distribution over cores.
    pub switch: SwitchStats,
}

impl NetInfo {
    /// Whether there is IPv6 on it, and so a link-local address.
    pub fn has_ipv6(&self) -> bool {
        self.mtu >= MTU_MIN_V6
    }
}

/// The interface of a card, as a service on the card's core.
pub struct NetInterface {
    inner: Box<dyn Interface>,
}

impl NetInterface {
    /// Takes the addresses from `config` from now on, on all cores.
    pub fn configure(&self, config: InterfaceConfig) {
        self.inner.configure(config);
    }

    /// What it is and has done.
    pub fn info(&self) -> NetInfo {
        self.inner.info()
    }
}

impl fmt::Debug for NetInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().fmt(f)
    }
}

/// Hides the type of the card.
trait Interface {
    fn configure(&self, config: InterfaceConfig);
    fn info(&self) -> NetInfo;
}

struct Card<P: FramePort> {
    switch: Rc<RefCell<Switch<P>>>,
    stack: Rc<RefCell<IpStack<CorePort<P>>>>,
}

impl<P: FramePort> Interface for Card<P> {
    fn configure(&self, config: InterfaceConfig) {
        self.stack.borrow_mut().configure(config);
    }

    fn info(&self) -> NetInfo {
        let (switch, stack) = (self.switch.borrow(), self.stack.borrow());
        NetInfo {
            mac: switch.card().mac(),
            mtu: switch.card().mtu(),
            link_up: switch.card().link_up(),
            addresses: stack.addresses(),
            stack: stack.stats(),
            switch: switch.stats(),
        }
    }
}

/// The stack of a core without the card, for address changes.
struct RemoteStack<P: FramePort>(Rc<RefCell<IpStack<CorePort<P>>>>);

/// Starts `card` on this core: a poller for the card (`net_nic`), and on this and each core of
/// `config` a stack with its poller (`net_stack`) and the service [`NetHandle`]. This core also
/// gets the service [`NetInterface`]. The other cores follow by event, in a later round; those that
/// have a pair of the card's queues as the service [`OwnQueue`] use it.
pub fn start<P: FramePort + 'static>(
    local: &Local,
    card: P,
    config: NetConfig,
) -> Result<(), SendError> {
    let NetConfig { interface, cores, seed, options } = config;
    let (switch, ends) = Switch::new(card, cores.len(), seed);
    let home = local.core();
    let mut followers = Vec::new();
    let count = cores.len() as u16 + 1;
    for (index, (core, end)) in (1..).zip(cores.into_iter().zip(ends)) {
        let seed = seed.rotate_left(core.0.into());
        let share = (index, count);
        let remote = Box::new(Remote { end, options, seed, share, home });
        local.send(core, move |local| remote.start::<P>(local))?;
        followers.push(Follower { core, knows: 0 });
    }
    let switch = Rc::new(RefCell::new(switch));
    let port = CorePort::Local(LocalPort::new(Rc::clone(&switch)));
    let mut stack = IpStack::new(port, options, seed, local.now());
    stack.share_ports(seed, 0, count);
    stack.configure(interface);
    let stack = Rc::new(RefCell::new(stack));
    local.provide(Rc::new(NetHandle::new(stack.clone())));
    let card = Card { switch: Rc::clone(&switch), stack: Rc::clone(&stack) };
    local.provide(Rc::new(NetInterface { inner: Box::new(card) }));
    let counted = Rc::clone(&switch);
    local.provide(Rc::new(NetQueue::new(move || {
        let switch = counted.borrow();
        let SwitchStats { to_lanes, tx_dropped, .. } = switch.stats();
        Some(QueueStats { tx_dropped, ..QueueStats::of(switch.card(), to_lanes) })
    })));
    let (resting_card, resting_stack) = (Rc::clone(&switch), Rc::clone(&stack));
    local.on_rest(move |_, rest| resting_card.borrow_mut().card_mut().doze(rest));
    local.on_rest(move |_, _| resting_stack.borrow().doze());
    let nic = Rc::clone(&switch);
    let poll_nic = move |local: &Local| nic.borrow_mut().poll(local.now());
    local.poller("net_nic", poll_nic).for_both().detach();
    let poll = move |local: &Local| {
        let work = stack.borrow_mut().poll(local.now());
        switch.borrow_mut().wake_receivers(|port| {
            followers.get(port).into_iter().for_each(|follower| local.wake(follower.core));
        });
        let stack = stack.borrow();
        followers.iter_mut().for_each(|follower| follower.tell(local, &stack));
        work
    };
    local.poller("net_stack", poll).for_both().detach();
    Ok(())
}

/// What another core needs for its stack.
struct Remote<F> {
    end: RemoteEnd<F>,
    options: StackOptions,
    seed: u64,
    /// Which of so many stacks it is.
    share: (u16, u16),
    /// The card's core.
    home: CoreId,
}

impl<F: Frame> Remote<F> {
    fn start<P: FramePort<Frame = F> + 'static>(self, local: &Local) {
        let own = local.service::<OwnQueue<P>>().and_then(|queue| queue.take());
        let port = CorePort::<P>::Remote(RemotePort::new(self.end, own, self.seed));
        let mut stack = IpStack::follower(port, self.options, self.seed, local.now());
        stack.share_ports(self.seed, self.share.0, self.share.1);
        let stack = Rc::new(RefCell::new(stack));
        local.provide(Rc::new(NetHandle::new(stack.clone())));
        local.provide(Rc::new(RemoteStack(Rc::clone(&stack))));
        let counted = Rc::clone(&stack);
        local.provide(Rc::new(NetQueue::new(move || counted.borrow().port().queue_stats())));
        let resting = Rc::clone(&stack);
        local.on_rest(move |_, rest| resting.borrow_mut().port_mut().doze(rest));
        let resting = Rc::clone(&stack);
        local.on_rest(move |_, _| resting.borrow().doze());
        let home = self.home;
        let poll = move |local: &Local| {
            let mut stack = stack.borrow_mut();
            let work = stack.poll(local.now());
            if stack.port_mut().take_sent() {
                local.wake(home);
            }
            work
        };
        local.poller("net_stack", poll).for_both().detach();
    }
}

/// Another core, and which version of the addresses it was told.
struct Follower {
    core: CoreId,
    knows: u32,
}

impl Follower {
    /// Tells the core of new addresses; again next round if its mailbox is full.
    fn tell<P: FramePort + 'static>(&mut self, local: &Local, stack: &IpStack<CorePort<P>>) {
        let version = stack.addresses_version();
        if self.knows == version {
            return;
        }
        let addresses = Box::new(stack.addresses());
        let told = local.send(self.core, move |local| {
            if let Some(stack) = local.service::<RemoteStack<P>>() {
                stack.0.borrow_mut().set_addresses(*addresses);
            }
        });
        if told.is_ok() {
            self.knows = version;
        }
    }
}
