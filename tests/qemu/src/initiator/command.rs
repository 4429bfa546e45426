//! Submission queue entries as bytes (NVMe base specification 2.0, NVM command set 1.0).

use super::pdu::{put16, put32};

/// A submission queue entry; the queue fills in identifier and data pointer.
pub type Command = [u8; 64];

/// Opcode of NVM reads.
pub const READ: u8 = 0x02;
/// Opcode of NVM writes.
pub const WRITE: u8 = 0x01;
/// Opcode of Identify.
pub const IDENTIFY: u8 = 0x06;
/// Opcode of Get Log Page.
pub const GET_LOG_PAGE: u8 = 0x02;
/// Opcode of every fabrics command.
pub const FABRICS: u8 = 0x7f;

/// Success.
pub const OK: u16 = 0;
/// Generic status: invalid opcode.
pub const INVALID_OPCODE: u16 = 0x01;
/// Generic status: invalid field in command.
pub const INVALID_FIELD: u16 = 0x02;
/// Generic status: command abort requested.
pub const ABORTED: u16 = 0x07;
/// Generic status: invalid namespace or format.
pub const INVALID_NAMESPACE: u16 = 0x0b;
/// Generic status: command sequence error.
pub const SEQUENCE_ERROR: u16 = 0x0c;
/// Generic status: data SGL length invalid.
pub const SGL_LENGTH_INVALID: u16 = 0x0f;
/// Generic status: SGL descriptor type invalid.
pub const SGL_TYPE_INVALID: u16 = 0x11;
/// Generic status: SGL offset invalid.
pub const SGL_OFFSET_INVALID: u16 = 0x16;
/// Generic status: namespace is write protected.
pub const WRITE_PROTECTED: u16 = 0x20;
/// Generic status: namespace not ready.
pub const NAMESPACE_NOT_READY: u16 = 0x82;
/// Generic status: LBA out of range.
pub const LBA_OUT_OF_RANGE: u16 = 0x80;
/// Connect: incompatible format.
pub const CONNECT_FORMAT: u16 = 0x180;
/// Connect: invalid parameters.
pub const CONNECT_PARAMETERS: u16 = 0x182;
/// Media error: write fault.
pub const WRITE_FAULT: u16 = 0x280;
/// Media error: unrecovered read error.
pub const UNRECOVERED_READ: u16 = 0x281;

/// The subsystem the image exports unless configured otherwise.
pub const NQN: &str = "nqn.2026-11.io.basalt:storage";
/// The discovery subsystem.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// The name the initiator has unless told otherwise.
pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-00000000ba5a";

/// A command with SGLs and everything else zero.
#[must_use]
pub fn blank(opcode: u8) -> Command {
    let mut command = [0; 64];
    command[0] = opcode;
    command[1] = 0x40;
    command
}

/// Read or Write of `blocks` (1 to 65,536) from `lba` on.
#[must_use]
pub fn io(opcode: u8, nsid: u32, lba: u64, blocks: u32) -> Command {
    let mut command = blank(opcode);
    put32(&mut command, 4, nsid);
    command[40..48].copy_from_slice(&lba.to_le_bytes());
    put32(&mut command, 48, blocks.wrapping_sub(1) & 0xffff);
    command
}

/// Identify with this CNS.
#[must_use]
pub fn identify(cns: u8, nsid: u32) -> Command {
    let mut command = blank(IDENTIFY);
    put32(&mut command, 4, nsid);
    command[40] = cns;
    command
}

/// Get Log Page of `len` bytes, a multiple of four, of log `lid`.
#[must_use]
pub fn log_page(lid: u8, len: u32) -> Command {
    let mut command = blank(GET_LOG_PAGE);
    put32(&mut command, 40, u32::from(lid) | (len / 4 - 1) << 16);
    command
}

/// Property Set of four bytes.
#[must_use]
pub fn property_set(offset: u32, value: u32) -> Command {
    let mut command = blank(FABRICS);
    put32(&mut command, 44, offset);
    put32(&mut command, 48, value);
    command
}

/// A Connect as a host might send it.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Record format.
    pub recfmt: u16,
    /// Queue identifier; 0 is the admin queue.
    pub qid: u16,
    /// Entries of the queue, 0's based.
    pub sqsize: u16,
    /// Host identifier.
    pub hostid: [u8; 16],
    /// Controller; all ones for a new one.
    pub cntlid: u16,
    /// The subsystem's name, up to 256 bytes.
    pub subnqn: Vec<u8>,
    /// The host's name, up to 256 bytes.
    pub hostnqn: Vec<u8>,
}

impl Connect {
    /// For the admin queue of a new controller.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            recfmt: 0,
            qid: 0,
            sqsize: 31,
            hostid: [0xba; 16],
            cntlid: 0xffff,
            subnqn: NQN.into(),
            hostnqn: HOST_NQN.into(),
        }
    }

    /// For the admin queue of a new discovery controller.
    #[must_use]
    pub fn discovery() -> Self {
        Self { subnqn: DISCOVERY_NQN.into(), ..Self::admin() }
    }

    /// For I/O queue `qid` of controller `cntlid`.
    #[must_use]
    pub fn io(cntlid: u16, qid: u16) -> Self {
        Self { qid, cntlid, sqsize: 127, ..Self::admin() }
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = blank(FABRICS);
        command[4] = 0x01;
        put16(&mut command, 40, self.recfmt);
        put16(&mut command, 42, self.qid);
        put16(&mut command, 44, self.sqsize);
        command
    }

    /// Its 1,024 bytes of data.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        let mut data = vec![0; 1024];
        data[..16].copy_from_slice(&self.hostid);
        put16(&mut data, 16, self.cntlid);
        data[256..][..self.subnqn.len()].copy_from_slice(&self.subnqn);
        data[512..][..self.hostnqn.len()].copy_from_slice(&self.hostnqn);
        data
    }
}
