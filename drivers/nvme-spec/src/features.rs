/// The value of the Number of Queues feature (§5.27.1.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueCounts {
    /// I/O submission queues, 1 to 65,535.
    pub submission: u16,
    /// I/O completion queues, 1 to 65,535.
    pub completion: u16,
}

impl QueueCounts {
    /// As many of each.
    pub const fn pairs(count: u16) -> Self {
        Self { submission: count, completion: count }
    }

    /// The dword of command or completion, 0's based; a count of 0 is taken as 1.
    pub const fn to_dword(self) -> u32 {
        (self.completion.saturating_sub(1) as u32) << 16 | self.submission.saturating_sub(1) as u32
    }

    /// From the dword; 65,535 (not allowed, would be 65,536) saturates.
    pub const fn from_dword(dword: u32) -> Self {
        Self {
            submission: (dword as u16).saturating_add(1),
            completion: ((dword >> 16) as u16).saturating_add(1),
        }
    }

    /// How many pairs the counts allow.
    pub const fn min(self) -> u16 {
        if self.submission < self.completion { self.submission } else { self.completion }
    }
}

/// The result of an Asynchronous Event Request (§5.2.1, completion dword 0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncEvent(pub u32);

impl AsyncEvent {
    /// In the configuration (§5.27.1.8) and in OAES: all critical warnings of the health log page.
    pub const CONFIG_HEALTH: u32 = 0xff;
    /// In the configuration and in OAES: namespace attribute notices.
    pub const CONFIG_NAMESPACE: u32 = 1 << 8;
    /// In the configuration and in OAES: changes of asymmetric namespace access.
    pub const CONFIG_ANA: u32 = 1 << 11;
    /// In the configuration and in OAES: changes of the discovery log page.
    pub const CONFIG_DISCOVERY: u32 = 1 << 31;
    /// Type 0: error status.
    pub const TYPE_ERROR: u8 = 0;
    /// Type 1: SMART or health status.
    pub const TYPE_HEALTH: u8 = 1;
    /// Type 2: notice.
    pub const TYPE_NOTICE: u8 = 2;
    /// Type 6: of the NVM command set, and of sanitizing.
    pub const TYPE_COMMAND_SET: u8 = 6;
    /// Command set 0: a reservation notification is available.
    pub const COMMAND_SET_RESERVATION: u8 = 0x00;
    /// Command set 1: a sanitize operation has ended.
    pub const COMMAND_SET_SANITIZED: u8 = 0x01;
    /// Health 1: a temperature threshold was crossed.
    pub const HEALTH_TEMPERATURE: u8 = 0x01;
    /// Notice 0: the namespace attributes changed.
    pub const NOTICE_NAMESPACE: u8 = 0x00;
    /// Notice 3: an asymmetric namespace access state, or the group of a namespace, changed.
    pub const NOTICE_ANA: u8 = 0x03;
    /// Notice 0xf0: the discovery log page changed.
    pub const NOTICE_DISCOVERY: u8 = 0xf0;

    /// An event of `kind` and `info`, told in full by log page `log`.
    pub const fn new(kind: u8, info: u8, log: u8) -> Self {
        Self((log as u32) << 16 | (info as u32) << 8 | (kind as u32 & 7))
    }

    /// Event type, one of the `TYPE_` constants if known.
    pub const fn kind(self) -> u8 {
        self.0 as u8 & 7
    }

    /// Event information, by type.
    pub const fn info(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Identifier of the log page that tells more and, by being read, clears the event.
    pub const fn log_page(self) -> u8 {
        (self.0 >> 16) as u8
    }
}
