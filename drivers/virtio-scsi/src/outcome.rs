use core::fmt;

/// Bytes of what the host writes besides data: with 96 bytes of sense data, which is what the
/// device gives unless told otherwise (virtio 1.2 §5.6.4).
pub const RESPONSE_LEN: usize = 12 + 96;

/// What a unit says of a command that failed (SPC-4 §4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code and its qualifier.
    pub code: (u8, u8),
}

impl Sense {
    /// Reads sense data in fixed or descriptor format; of anything else nothing is known.
    fn read(bytes: &[u8]) -> Self {
        let at = |offset: usize| bytes.get(offset).copied().unwrap_or(0);
        match at(0) & 0x7f {
            0x70 | 0x71 => Self { key: at(2) & 0xf, code: (at(12), at(13)) },
            0x72 | 0x73 => Self { key: at(1) & 0xf, code: (at(2), at(3)) },
            _ => Self::default(),
        }
    }
}

/// Why a command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// There is no such target.
    BadTarget,
    /// It was aborted, or the unit was reset under it.
    Aborted,
    /// It may be tried again: the host or the unit is busy, or has something to tell first.
    TryAgain,
    /// The unit could not carry it out.
    Sense(Sense),
    /// Another SCSI status (SAM-5 §5.3.1).
    Status(u8),
    /// The host could not carry it out, for that reason (virtio 1.2 §5.6.6.1).
    Host(u8),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadTarget => f.write_str("there is no such target"),
            Self::Aborted => f.write_str("aborted"),
            Self::TryAgain => f.write_str("busy"),
            Self::Sense(Sense { key, code: (code, qualifier) }) => {
                write!(f, "sense key {key:#x}, code {code:#04x}/{qualifier:#04x}")
            }
            Self::Status(status) => write!(f, "SCSI status {status:#04x}"),
            Self::Host(response) => write!(f, "virtio response {response}"),
        }
    }
}

/// What the host's answer to a command means; how many bytes of data were not moved.
///
/// # Errors
/// It failed.
pub fn outcome(response: &[u8; RESPONSE_LEN]) -> Result<u32, Failure> {
    const BUSY: u8 = 0x08;
    const TASK_SET_FULL: u8 = 0x28;
    const TASK_ABORTED: u8 = 0x40;
    const UNIT_ATTENTION: u8 = 6;
    const ABORTED_COMMAND: u8 = 0xb;
    let [_, _, _, _, r0, r1, r2, r3, _, _, status, host, sense @ ..] = response;
    match host {
        0 => {}
        2 | 4 => return Err(Failure::Aborted),
        3 => return Err(Failure::BadTarget),
        5 => return Err(Failure::TryAgain),
        other => return Err(Failure::Host(*other)),
    }
    match *status {
        0 => Ok(u32::from_le_bytes([*r0, *r1, *r2, *r3])),
        2 => Err(match Sense::read(sense) {
            Sense { key: UNIT_ATTENTION, .. } => Failure::TryAgain,
            Sense { key: ABORTED_COMMAND, .. } => Failure::Aborted,
            sense => Failure::Sense(sense),
        }),
        BUSY | TASK_SET_FULL => Err(Failure::TryAgain),
        TASK_ABORTED => Err(Failure::Aborted),
        other => Err(Failure::Status(other)),
    }
}
