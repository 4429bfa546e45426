//! How a controller chooses the queue that it takes commands from next (§3.4.4).

/// The class of an I/O submission queue where weights decide (§5.5, QPRIO).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum QueuePriority {
    /// Before all others, whatever their weight.
    Urgent = 0,
    /// With the high weight.
    High = 1,
    /// With the medium weight.
    #[default]
    Medium = 2,
    /// With the low weight.
    Low = 3,
}

impl QueuePriority {
    /// From the two bits of a command.
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Urgent,
            1 => Self::High,
            2 => Self::Medium,
            _ => Self::Low,
        }
    }
}

/// The value of the Arbitration feature (§5.27.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arbitration {
    /// Most commands taken from a queue at a time, as a power of two: 0 to 6, or
    /// [`Self::BURST_UNLIMITED`].
    pub burst: u8,
    /// Commands of all low priority queues in a round, less one.
    pub low: u8,
    /// Commands of all medium priority queues in a round, less one.
    pub medium: u8,
    /// Commands of all high priority queues in a round, less one.
    pub high: u8,
}

impl Arbitration {
    /// As many commands as there are.
    pub const BURST_UNLIMITED: u8 = 7;

    /// The dword of command or completion.
    pub const fn to_dword(self) -> u32 {
        u32::from_le_bytes([self.burst & 7, self.low, self.medium, self.high])
    }

    /// From the dword.
    pub const fn from_dword(dword: u32) -> Self {
        let [burst, low, medium, high] = dword.to_le_bytes();
        Self { burst: burst & 7, low, medium, high }
    }

    /// Most commands taken from a queue at a time; `None` for no limit.
    pub const fn burst_commands(self) -> Option<u32> {
        if self.burst >= Self::BURST_UNLIMITED { None } else { Some(1 << self.burst) }
    }

    /// Commands of all queues of a class in a round; `None` if it has no weight.
    pub const fn weight(self, priority: QueuePriority) -> Option<u32> {
        let weight = match priority {
            QueuePriority::Urgent => return None,
            QueuePriority::High => self.high,
            QueuePriority::Medium => self.medium,
            QueuePriority::Low => self.low,
        };
        Some(weight as u32 + 1)
    }
}
