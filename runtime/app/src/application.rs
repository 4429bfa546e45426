use basalt_reactor::Local;
use basalt_rpc::Router;

/// What a program of one's own adds to Basalt: code that runs on the reactors beside everything
/// else, over the same bdevs.
///
/// It is called once, on the boot core, when the drives are there and before the configuration is
/// carried out, which may call the JSON-RPC methods that it adds. It must not wait: what takes time
/// is for a task ([`Local::spawn`]) or a poller ([`Local::poller`]). What those need is among the
/// core's services: the [`Registry`](basalt_bdev::Registry) of bdevs, the
/// [`DmaPool`](basalt_env::DmaPool).
pub type Application = fn(&Local, &mut Router);

/// Nothing is added.
pub const NO_APPLICATION: Application = |_, _| {};
