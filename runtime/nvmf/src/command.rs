use basalt_nvme_spec::{Command, Completion, FabricsType, SglDescriptor, Status, fabrics};
use zerocopy::little_endian::{U16, U32};

/// Which way a command's data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// There is none.
    None,
    /// Host to controller.
    ToController,
    /// Controller to host.
    ToHost,
}

/// How a command's data travels; lengths in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// Not at all.
    None,
    /// It came with the capsule, from `offset` in the capsule's data.
    InCapsule {
        /// First byte in the capsule's data.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// The host sends it when asked (R2T).
    FromHost {
        /// Bytes.
        len: u32,
    },
    /// We send it.
    ToHost {
        /// Bytes at most.
        len: u32,
    },
}

impl Transfer {
    /// The same with `len` bytes instead, or an error if the data pointer describes fewer.
    pub fn exactly(self, len: u32) -> Result<Self, Status> {
        let (described, same) = match self {
            Self::None => (0, self),
            Self::InCapsule { offset, len: described } => {
                (described, Self::InCapsule { offset, len })
            }
            Self::FromHost { len: described } => (described, Self::FromHost { len }),
            Self::ToHost { len: described } => (described, Self::ToHost { len }),
        };
        if described < len { Err(Status::SGL_LENGTH_INVALID.with_dnr()) } else { Ok(same) }
    }
}

/// Whether `command` is a Connect.
pub fn is_connect(command: &Command) -> bool {
    command.opcode == fabrics::OPCODE && command.fabrics_type() == FabricsType::CONNECT
}

/// Which way data goes: the lower two bits of the opcode or fabrics type (§3.3.3.1). The command
/// sets spoken here have no bidirectional transfers.
pub fn direction(command: &Command) -> Result<Direction, Status> {
    let is_fabrics = command.opcode == fabrics::OPCODE;
    let code = if is_fabrics { command.fabrics_type().0 } else { command.opcode };
    match code & 3 {
        0 => Ok(Direction::None),
        1 => Ok(Direction::ToController),
        2 => Ok(Direction::ToHost),
        _ => Err(Status::INVALID_OPCODE.with_dnr()),
    }
}

/// Checks the data pointer against the capsule's `capsule_len` data bytes and the largest transfer
/// `len_max` (NVMe/TCP §3.4, base specification 2.0 §4.1.2).
pub fn transfer(command: &Command, capsule_len: u32, len_max: u32) -> Result<Transfer, Status> {
    const IN_CAPSULE: u8 = SglDescriptor::TYPE_DATA_BLOCK << 4 | SglDescriptor::SUBTYPE_OFFSET;
    const TRANSPORT: u8 =
        SglDescriptor::TYPE_TRANSPORT_DATA_BLOCK << 4 | SglDescriptor::SUBTYPE_TRANSPORT;
    let direction = direction(command)?;
    if direction == Direction::None {
        return Ok(Transfer::None);
    }
    let sgl = command.sgl1();
    let (address, len) = (sgl.address.get(), sgl.length.get());
    // Set Features, for one, has data for some features only.
    if len == 0 {
        return Ok(Transfer::None);
    }
    // Over fabrics every data pointer is an SGL; PSDT 11b is reserved.
    let psdt = command.flags & Command::FLAG_PSDT_MASK;
    if command.opcode != fabrics::OPCODE && (psdt == 0 || psdt == Command::FLAG_PSDT_MASK) {
        return Err(Status::INVALID_FIELD.with_dnr());
    }
    if len > len_max {
        return Err(Status::SGL_LENGTH_INVALID.with_dnr());
    }
    match (sgl.identifier, direction) {
        (IN_CAPSULE, Direction::ToController) => {
            let end = address.checked_add(u64::from(len));
            if end.is_none_or(|end| end > u64::from(capsule_len)) {
                return Err(Status::SGL_OFFSET_INVALID.with_dnr());
            }
            Ok(Transfer::InCapsule { offset: address as u32, len })
        }
        (TRANSPORT, Direction::ToController) => Ok(Transfer::FromHost { len }),
        (TRANSPORT, _) => Ok(Transfer::ToHost { len }),
        _ => Err(Status::SGL_TYPE_INVALID.with_dnr()),
    }
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Its status.
    pub status: Status,
    /// Command-specific result: dword 0 in the lower half, dword 1 in the upper.
    pub result: u64,
}

impl Outcome {
    /// Success without a result.
    pub const OK: Self = Self { status: Status::SUCCESS, result: 0 };

    /// Success with a result.
    pub const fn value(result: u64) -> Self {
        Self { status: Status::SUCCESS, result }
    }

    /// The completion queue entry. Over TCP the queue identifier stays 0.
    pub const fn entry(self, cid: u16, sqhd: u16) -> Completion {
        let mut entry = Completion::new(cid, self.status).with_dw0(self.result as u32);
        entry.dw1 = U32::new((self.result >> 32) as u32);
        entry.sqhd = U16::new(sqhd);
        entry
    }
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self { status, result: 0 }
    }
}

impl From<Result<u64, Status>> for Outcome {
    fn from(result: Result<u64, Status>) -> Self {
        result.map_or_else(Self::from, Self::value)
    }
}
