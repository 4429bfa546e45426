use alloc::format;
use alloc::string::String;
use core::time::Duration;

use basalt_bdev::uuid;
use basalt_net::{Endpoint, NetInterface};
use basalt_reactor::Local;

use basalt_nvmf_host::Policy;
use basalt_nvmf_pdu::Digests;

/// Who we are to a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The host's qualified name.
    pub nqn: String,
    /// Its identifier, which reservations are held by.
    pub id: [u8; 16],
}

impl Host {
    /// A host of that name. Its identifier is the UUID in it, or one derived from it.
    pub fn named(nqn: &str) -> Self {
        let own = nqn.rsplit_once(":uuid:").and_then(|(_, text)| uuid::parse(text));
        Self { nqn: nqn.into(), id: own.unwrap_or_else(|| uuid::derive(&[nqn.as_bytes()])) }
    }

    /// This machine: the same after every boot, as its network card is.
    pub fn of(local: &Local) -> Self {
        let mac = local.service::<NetInterface>().map_or([0; 6], |net| net.info().mac);
        let id = uuid::derive(&[b"host", &mac]);
        Self { nqn: format!("nqn.2014-08.org.nvmexpress:uuid:{}", uuid::format(&id)), id }
    }
}

/// How long a controller that cannot be reached is waited for (SPDK's `ctrlr_loss_timeout_sec`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// It is given up after that time.
    After(Duration),
    /// It is waited for without end.
    Never,
}

/// What is done when a controller cannot be reached any more, by SPDK's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconnect {
    /// `ctrlr_loss_timeout_sec`: when it is given up.
    pub loss: Loss,
    /// `reconnect_delay_sec`: how long to wait before the next try. Zero tries once, and then no
    /// more until somebody asks for a reset.
    pub delay: Duration,
    /// `fast_io_fail_timeout_sec`: for how long Ios wait for it, if not until it is given up.
    pub fast_io_fail: Option<Duration>,
}

/// How a remote controller is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteOptions {
    /// Its name, from which its bdevs get theirs: `Nvme0` gives `Nvme0n1`.
    pub name: String,
    /// The subsystem's qualified name.
    pub subnqn: String,
    /// Who we are.
    pub host: Host,
    /// Digests to ask for.
    pub digests: Digests,
    /// Entries of each core's queue, as far as the controller has as many.
    pub queue_entries: u16,
    /// I/O queues at most, one per core.
    pub io_queues: u16,
    /// The time in which the controller hears from us.
    pub keep_alive: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an Io may take before its path is given up; none for any time.
    pub io_timeout: Option<Duration>,
    /// What is done when it cannot be reached.
    pub reconnect: Reconnect,
    /// Which of several paths Ios take.
    pub policy: Policy,
    /// Whether what goes by each of several paths is counted (SPDK's `io_path_stat`).
    pub io_path_stat: bool,
}

impl RemoteOptions {
    /// The defaults: 128 entries, a queue per core, 10 s of keep-alive, 30 s per Io and to connect,
    /// reconnected every 2 s for as long as it takes.
    pub fn new(local: &Local, name: impl Into<String>, subnqn: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            subnqn: subnqn.into(),
            host: Host::of(local),
            digests: Digests::default(),
            queue_entries: 128,
            io_queues: u16::MAX,
            keep_alive: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(30),
            io_timeout: Some(Duration::from_secs(30)),
            reconnect: Reconnect {
                loss: Loss::Never,
                delay: Duration::from_secs(2),
                fast_io_fail: None,
            },
            policy: Policy::ActivePassive,
            io_path_stat: false,
        }
    }
}

/// Where a path leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportId {
    /// Address and port of the target.
    pub peer: Endpoint,
}
