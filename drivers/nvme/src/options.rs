use core::time::Duration;

use crate::{ArbitrationOptions, LongLimits};

/// What to ask of a controller.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// I/O queue pairs wanted; the controller may grant fewer.
    pub queues: u16,
    /// Entries of each I/O queue, 2 to 4,096; one less can be outstanding. The controller may do
    /// with fewer.
    pub queue_entries: u16,
    /// Limit for an admin command.
    pub admin_timeout: Duration,
    /// Limits for admin commands that take longer.
    pub long: LongLimits,
    /// Limit for an I/O command.
    pub io_timeout: Duration,
    /// Whether the doorbells may be in memory where the controller offers that. It saves exits to
    /// whoever emulates the controller, and costs a fence for each batch of commands.
    pub shadow_doorbells: bool,
    /// Whether submission queues may lie in the controller's own memory where it offers that. It
    /// need not fetch commands then, but each costs the core eight writes to a device, which leave
    /// a guest if the controller is emulated. Doorbells are then not in memory.
    pub controller_memory_buffer: bool,
    /// How the controller is to choose among queues; `None` leaves that to it.
    pub arbitration: Option<ArbitrationOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queues: 1,
            queue_entries: 256,
            admin_timeout: Duration::from_secs(10),
            long: LongLimits::default(),
            io_timeout: Duration::from_secs(30),
            shadow_doorbells: true,
            controller_memory_buffer: false,
            arbitration: None,
        }
    }
}
