//! The control plane: JSON-RPC methods and what ends the program.

use alloc::rc::Rc;

use basalt_reactor::Local;
use basalt_rpc::{Router, Rpc, State};

use crate::memory::{self, HeapStats};

/// Starts the control plane on this core, the boot core, with every method that an environment
/// shares with the others and those that `more` adds. `end` is what `spdk_kill_instance` does.
/// [`Rpc::open`] ends the boot.
pub fn start(
    local: &Local,
    heap: HeapStats,
    more: impl FnOnce(&mut Router),
    end: impl Fn() + 'static,
) -> Rc<Rpc> {
    let rpc = Rpc::start(local, methods(heap, more), State::Startup);
    rpc.on_kill(move |signal| {
        log::info!(target: "basalt", "{signal}: powering off");
        end();
    });
    rpc
}

/// The methods: every one that an environment shares with the others, and those that `more` adds.
pub(crate) fn methods(heap: HeapStats, more: impl FnOnce(&mut Router)) -> Router {
    let mut router = Router::default();
    basalt_rpc::methods::register_all(&mut router);
    memory::register(&mut router, heap);
    more(&mut router);
    router
}
