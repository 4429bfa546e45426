//! What a controller, or a discovery service, says of itself to the initiator: identify data, and
//! log pages.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use basalt_models::pipes::TestStack;
use basalt_net::{Endpoint, NetHandle};
use basalt_nvmf_initiator::{
    Discoveries, DiscoveryOptions, Multipath, RemoteOptions, Remotes, TransportId,
};

use crate::input::Input;
use crate::machine::Machine;
use crate::nvmf::far::{Far, Pages, good_pages};
use crate::seed::Seed;

const FOLLOWS: u8 = 1;
const HAS_EVENT: u8 = 2;
const FAILS: u8 = 4;
const ROUND: Duration = Duration::from_millis(1);
/// Rounds in which what has been started can come to something.
const ROUNDS: u32 = 60;

/// A machine whose every connection leads to the same controller.
struct World {
    machine: Machine,
    stack: Rc<RefCell<TestStack>>,
    far: Far,
    /// Whether nothing is wrong with the controller.
    is_good: bool,
}

impl World {
    fn new(pages: Pages) -> Self {
        let mut machine = Machine::new(1);
        machine.round = ROUND;
        let stack = Rc::new(RefCell::new(TestStack::new()));
        stack.borrow_mut().reaches = true;
        machine.local(0).provide(Rc::new(NetHandle::new(stack.clone())));
        let is_good = pages == good_pages();
        Self { machine, stack, far: Far::new(pages), is_good }
    }

    fn options(&self, name: &str) -> RemoteOptions {
        let options = RemoteOptions::new(&self.machine.local(0), name, "nqn");
        RemoteOptions { connect_timeout: Duration::from_millis(200), ..options }
    }

    fn wait_for<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let Self { machine, stack, far, .. } = self;
        machine.wait_for(task, || far.serve(&mut stack.borrow_mut()))
    }

    fn rounds(&mut self) {
        for _ in 0..ROUNDS {
            self.machine.step();
            self.far.serve(&mut self.stack.borrow_mut());
        }
    }

    /// What has become a bdev is one that can be.
    fn check_bdevs(&self) {
        for bdev in self.machine.registry.list() {
            let info = bdev.info();
            let (size, blocks) = (u64::from(info.block_size), info.num_blocks.get());
            assert!(size.is_power_of_two() && (512..=1 << 20).contains(&size), "{size}");
            assert!(blocks > 0 && blocks.checked_mul(size).is_some(), "{blocks} of {size}");
        }
    }

    fn attach(&mut self) {
        let remotes = Remotes::of(&self.machine.local(0));
        let (options, attaching) = (self.options("Far"), Rc::clone(&remotes));
        let transport = TransportId { peer: Endpoint::from(([10, 0, 0, 7], 4420)) };
        let attached =
            self.wait_for(
                async move { attaching.attach(options, transport, Multipath::Disable).await },
            );
        assert!(attached.is_ok() || !self.is_good, "{attached:?}");
        self.check_bdevs();
        // The event comes, and what has changed is looked at.
        self.rounds();
        self.check_bdevs();
        if attached.is_ok() {
            let detached = self.wait_for(async move { remotes.detach("Far", None).await });
            assert_eq!(detached, Ok(()));
        }
    }

    fn follow(&mut self) {
        let local = self.machine.local(0);
        let discoveries = Discoveries::of(&local);
        let transport = TransportId { peer: Endpoint::from(([10, 0, 0, 7], 8009)) };
        let remote = self.options("Far");
        let options = DiscoveryOptions { name: "Far".into(), transport, remote };
        discoveries.start(&local, options).unwrap();
        self.rounds();
        let found = Remotes::of(&local).list().len();
        assert!(found == 1 || !self.is_good, "{found} controllers were found");
        self.check_bdevs();
        let stopped = self.wait_for(async move { discoveries.stop("Far").await });
        assert_eq!(stopped, Ok(()));
    }

    /// Nothing is left of the controllers, and no connection to them.
    fn check_end(mut self) {
        self.rounds();
        let local = self.machine.local(0);
        assert!(Remotes::of(&local).list().is_empty() && self.machine.registry.list().is_empty());
        let stack = self.stack.borrow();
        assert!(stack.pipes.iter().all(|pipe| pipe.target_closed || pipe.target_reset));
    }
}

/// Byte 0: whether it is a discovery service, has an event, and fails a command. Then the event,
/// the number of the command and its status, and the pages as records.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let (event, at, status) = (input.dword(), input.byte(), input.word());
    let mut pages = good_pages();
    pages.event = (mode & HAS_EVENT != 0).then_some(event);
    pages.fails = (mode & FAILS != 0).then_some((at.into(), status));
    let all = pages.identify.values_mut().chain(pages.logs.values_mut());
    all.for_each(|page| *page = input.record().to_vec());
    let mut world = World::new(pages);
    match mode & FOLLOWS {
        0 => world.attach(),
        _ => world.follow(),
    }
    world.check_end();
}

/// Pages as they should be.
pub fn seeds() -> Vec<Seed> {
    let pages = good_pages();
    let seed = |mode: u8| {
        let [a, b, c, d] = pages.event.unwrap_or(0).to_le_bytes();
        let head = Seed::starting(&[mode, a, b, c, d, 12, 4, 0]);
        let all = pages.identify.values().chain(pages.logs.values());
        all.fold(head, |seed, page| seed.record(page))
    };
    [HAS_EVENT, HAS_EVENT | FAILS, FOLLOWS | HAS_EVENT, FOLLOWS].map(seed).into()
}
